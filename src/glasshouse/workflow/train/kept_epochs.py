"""The weights of earlier epochs, kept on request."""

from pathlib import Path

from torch import Tensor

from glasshouse.runs import folder as runs
from glasshouse.storage import read_tensors, tensors_to_bytes, write_bytes
from glasshouse.training.state import TrainingState, finished_epochs, weights_of_checkpoint


def keep_epoch(state: TrainingState, run: Path, every: int) -> None:
    """Write the weights that the completed epoch was validated with, if it is due.

    every: keep one epoch out of this many; 0: none. Raises StorageError when the disk is full.
    """
    if not every or state.epoch % every:
        return
    weights = state.averaged or state.net.state_dict()
    small = {name: _halved(tensor) for name, tensor in weights.items()}
    write_bytes(_path(run, state.epoch), tensors_to_bytes(small))


def kept_epochs(run: Path) -> list[int]:
    """The epochs whose weights are available: those kept on request, and those of checkpoints."""
    asked_for = (int(path.stem) for path in (run / runs.KEPT_EPOCHS).glob("[0-9]*.safetensors"))
    return sorted({*asked_for, *finished_epochs(run / runs.CHECKPOINTS)})


def weights_of_epoch(run: Path, epoch: int) -> dict[str, Tensor]:
    """The weights that a kept epoch was validated with, in the precision they were kept in.

    Raises StorageError for a missing or damaged file.
    """
    whole = finished_epochs(run / runs.CHECKPOINTS).get(epoch)
    return read_tensors(_path(run, epoch))[0] if whole is None else weights_of_checkpoint(whole)


def _path(run: Path, epoch: int) -> Path:
    return run / runs.KEPT_EPOCHS / f"{epoch:05d}.safetensors"


def _halved(tensor: Tensor) -> Tensor:
    """Kernels in half precision; biases and statistics are small, and may exceed its range."""
    return tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
