"""What a GPU whose memory is full is called, without an import of torch."""

import pytest
import torch

from glasshouse.errors import GpuMemoryError, naming_full_gpu


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.97 GB). Tried to allocate"),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_gpu_whose_memory_is_full_is_named_with_what_to_do(error: RuntimeError) -> None:
    with pytest.raises(GpuMemoryError) as full, naming_full_gpu():
        raise error
    assert str(full.value) == (
        "the GPU's memory is full: end other programs that use it, or use --device cpu"
    )
    assert full.value.__cause__ is error and full.value.exit_code == 2
    with (
        pytest.raises(GpuMemoryError, match=r"is full: lower train\.batch_size, end other"),
        naming_full_gpu("lower train.batch_size, "),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), MemoryError(), KeyError("x")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as found, naming_full_gpu():
        raise error
    assert found.value is error
