"""The Open Inference Protocol as tritonclient, which many use, speaks it."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

from glasshouse.data.decode import decode
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predict_logits
from glasshouse.models.preprocessing import preprocess
from glasshouse.serving.service.service import Service
from tests.serving.service.conftest import CLASS_NAMES, png, running

FILES = [png(seed) for seed in range(3)]
NUMBERS = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64", "float32", "float64")


@pytest.fixture
def client(service: Service) -> Iterator[Any]:
    """A client of the service."""
    with running(service) as server:
        found = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        yield found
        found.close()


@pytest.fixture
def pixels(classifier: Classifier) -> NDArray[np.uint8]:
    """The files at the network's input size."""
    return np.stack([preprocess(decode(each), classifier.preprocessing) for each in FILES])


@pytest.fixture
def expected(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits of the files, computed without a service."""
    return predict_logits(classifier.net, classifier.preprocessing, pixels).numpy()


def infer(client: Any, datatype: str, values: NDArray[Any], binary: bool, **more: Any) -> Any:
    """The client's result for one tensor."""
    tensor = triton.InferInput("any name", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return client.infer("tiny", [tensor], **more)


def requested(name: str, **more: Any) -> Any:
    """An output to ask for."""
    return triton.InferRequestedOutput(name, **more)


def of_files(files: list[bytes]) -> NDArray[Any]:
    """A tensor of files."""
    return np.array(files, dtype=object)


def test_the_client_finds_the_server_and_its_model(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
    assert not client.is_model_ready("other")
    about = client.get_server_metadata()
    assert about["name"] == "glasshouse" and about["version"] and about["extensions"]
    for version in ("", "1"):
        model = client.get_model_metadata("tiny", version)
        assert (model["name"], model["versions"]) == ("tiny", ["1"])
        shapes = {each["name"]: each["shape"] for each in model["inputs"]}
        assert shapes == {"images": [-1], "pixels": [-1, 3, 16, 16]}
        outputs = {each["name"]: (each["datatype"], each["shape"]) for each in model["outputs"]}
        assert outputs == {
            "class": ("BYTES", [-1]),
            "probabilities": ("FP32", [-1, 4]),
            "logits": ("FP32", [-1, 4]),
        }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_pixels_give_the_offline_logits(
    client: Any,
    pixels: NDArray[np.uint8],
    expected: NDArray[np.float32],
    binary: bool,
    compression: str | None,
) -> None:
    for outputs in (None, [requested(name, binary_data=binary) for name in ("class", "logits")]):
        found = infer(
            client, "UINT8", pixels, binary,
            request_id="42", outputs=outputs, request_compression_algorithm=compression,
        )  # fmt: skip
        np.testing.assert_allclose(found.as_numpy("logits"), expected, rtol=1e-5, atol=1e-5)
        names = [CLASS_NAMES[k] for k in expected.argmax(1)]
        texts = [t if isinstance(t, str) else t.decode() for t in found.as_numpy("class")]
        assert texts == names
        assert found.get_response()["id"] == "42"
        assert found.get_response()["parameters"] == {"value_range": "0 to 255"}


@pytest.mark.parametrize("datatype", NUMBERS)
@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype_of_numbers_gives_the_same_logits(
    client: Any, pixels: NDArray[np.uint8], expected: NDArray[np.float32], datatype: str,
    binary: bool,
) -> None:  # fmt: skip
    name = datatype.upper().replace("FLOAT", "FP")
    found = infer(client, name, pixels.astype(datatype), binary)
    np.testing.assert_allclose(found.as_numpy("logits"), expected, rtol=1e-5, atol=1e-5)
    assert found.get_response()["parameters"] == {"value_range": "0 to 255"}


def test_int8_bool_and_half_precision(
    client: Any, classifier: Classifier, pixels: NDArray[np.uint8]
) -> None:
    def logits(images: NDArray[Any]) -> NDArray[Any]:
        return predict_logits(classifier.net, classifier.preprocessing, images).numpy()

    dark = pixels // 2
    bright = pixels > 127
    # Whole numbers up to 255 fit into the 8 bits of bfloat16's fraction, and into float16.
    for datatype, values, wanted, value_range in (
        ("INT8", dark.astype(np.int8), dark, "0 to 255"),
        ("BOOL", bright, bright * np.uint8(255), "0 to 1"),
        ("FP16", pixels.astype(np.float16), pixels, "0 to 255"),
        ("BF16", pixels.astype(triton_to_np_dtype("BF16")), pixels, "0 to 255"),  # by version
    ):
        found = infer(client, datatype, values, binary=True)
        np.testing.assert_allclose(
            found.as_numpy("logits"), logits(wanted), rtol=1e-5, atol=1e-5, err_msg=datatype
        )
        assert found.get_response()["parameters"]["value_range"] == value_range


@pytest.mark.parametrize("datatype", ["float32", "float64"])
@pytest.mark.parametrize("binary", [True, False])
def test_fractions_are_recognised_and_reported(
    client: Any, pixels: NDArray[np.uint8], expected: NDArray[np.float32], datatype: str,
    binary: bool,
) -> None:  # fmt: skip
    found = infer(
        client, datatype.upper().replace("FLOAT", "FP"), (pixels / 255).astype(datatype), binary
    )
    np.testing.assert_allclose(found.as_numpy("logits"), expected, rtol=1e-4, atol=1e-4)
    assert found.get_response()["parameters"] == {"value_range": "0 to 1"}


def test_whole_numbers_that_may_be_fractions_are_warned_of(client: Any) -> None:
    found = infer(client, "UINT8", np.eye(16, dtype=np.uint8)[None, None].repeat(3, 1), True)
    parameters = found.get_response()["parameters"]
    assert parameters["value_range"] == "0 to 255" and "nearly black" in parameters["warnings"]


def test_files_binary_in_base64_and_both(client: Any, expected: NDArray[np.float32]) -> None:
    encoded = [base64.b64encode(each) for each in FILES]
    for files, binary in ((FILES, True), (encoded, True), (encoded, False)):
        found = infer(client, "BYTES", of_files(files), binary)
        np.testing.assert_allclose(found.as_numpy("logits"), expected, rtol=1e-5, atol=1e-5)
        assert "parameters" not in found.get_response()


def test_the_best_classes_as_the_classification_extension_has_them(
    client: Any, pixels: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    for binary in (True, False):
        outputs = [requested("logits", binary_data=binary, class_count=2)]
        found = infer(client, "UINT8", pixels, True, outputs=outputs).as_numpy("logits")
        assert found.shape == (3, 2)
        for row, logits in zip(found, expected, strict=True):
            for text, k in zip(row, np.argsort(-logits), strict=False):
                text = text if isinstance(text, str) else text.decode()
                value, number, name = text.split(":", 2)
                assert (int(number), name) == (k, CLASS_NAMES[k])
                assert float(value) == pytest.approx(logits[k], abs=1e-5)


def test_errors_reach_the_caller_in_words(client: Any) -> None:
    wrong = np.zeros((1, 3, 9, 9), np.uint8)
    for binary in (True, False):
        with pytest.raises(
            triton.InferenceServerException, match=r"expected the shape \[-1, 3, 16"
        ):
            infer(client, "UINT8", wrong, binary)
    with pytest.raises(triton.InferenceServerException, match="Unknown model 'no-such'"):
        client.get_model_metadata("no-such")
    with pytest.raises(triton.InferenceServerException, match="not an image"):
        infer(client, "BYTES", of_files([b"hello!"]), True)
    with pytest.raises(triton.InferenceServerException, match="Not Found"):
        client.get_trace_settings()
