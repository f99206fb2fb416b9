import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import GlasshouseWarning, ModelError, NotFinite
from glasshouse.export.onnx import export_onnx
from glasshouse.export.parity import check_parity
from glasshouse.models.classifier import Classifier, Preprocessing
from glasshouse.models.predict import predict_logits
from tests.conftest import make_images

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

NAMES = ("one", "two", "<b>three</b>", "\N{SNOWMAN}")


@pytest.fixture
def classifier(tiny_net: nn.Sequential) -> Classifier:
    levels = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    return Classifier(tiny_net, Preprocessing(16, 16, "crop", *levels), NAMES, temperature=1.7)


def test_the_file_predicts_as_the_classifier(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    classifier.net.train()
    export_onnx(classifier, path)
    assert classifier.net.training
    images = make_images(9).pixels
    parity = check_parity(classifier, path, images)
    assert (parity.images, parity.same_class) == (9, 9)
    assert parity.difference < 1e-6
    assert check_parity(classifier, path).images == 24

    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits, shares = session.run(["logits", "probabilities"], {"images": images})
    expected = predict_logits(classifier.net, classifier.preprocessing, images).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    wanted = torch.from_numpy(expected / 1.7).softmax(1).numpy()
    np.testing.assert_allclose(shares, wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_is_written_in_float32(
    classifier: Classifier, dtype: torch.dtype, tmp_path: Path
) -> None:
    path, images = tmp_path / "model.onnx", make_images(9).pixels
    net = classifier.net.to(dtype)
    export_onnx(replace(classifier, net=net), path)
    assert {each.dtype for each in net.parameters()} == {dtype}
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    expected = predict_logits(net.float(), classifier.preprocessing, images).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_file_that_onnxruntime_cannot_run_is_refused(
    classifier: Classifier, tmp_path: Path
) -> None:
    class Reduced(nn.Module):
        """Computes in a precision that onnxruntime has no convolutions for."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.conv, self.net = nn.Conv2d(3, 3, 1).bfloat16(), net

        def forward(self, inputs: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                values: Tensor = self.net(self.conv(inputs.bfloat16()).float())
            return values

    reduced = replace(classifier, net=Reduced(classifier.net))
    export_onnx(reduced, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"was written, but onnxruntime cannot run it: .*bfloat16"):
        check_parity(reduced, tmp_path / "model.onnx")


def test_other_views_are_included_where_the_classifier_uses_them(
    classifier: Classifier, tmp_path: Path
) -> None:
    mirrored = replace(classifier, mirror=True, shifts=True)
    export_onnx(mirrored, tmp_path / "model.onnx")
    assert check_parity(mirrored, tmp_path / "model.onnx").difference < 1e-6
    with pytest.raises(ModelError):
        check_parity(classifier, tmp_path / "model.onnx")


def test_the_file_is_self_contained_and_describes_its_outputs(
    classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(classifier, path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    facts = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert json.loads(facts["class_names"]) == list(NAMES)
    assert facts["temperature"] == "1.7"


def test_a_file_of_another_net_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(classifier, path)
    last = classifier.net[-1]  # type: ignore[index]
    last.weight.data.mul_(-1)
    with pytest.raises(ModelError, match="does not predict the same as the classifier"):
        check_parity(classifier, path)


def test_a_network_with_data_dependent_control_flow_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Moody(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            means = inputs.mean((1, 2, 3))
            return (
                torch.stack([means, -means], 1) if float(means.sum()) > 0 else inputs[:, :2, 0, 0]
            )

    classifier = Classifier(Moody(), Preprocessing(16, 16), ("a", "b"))
    with pytest.raises(ModelError, match="depending on computed values") as caught:
        export_onnx(classifier, tmp_path / "x.onnx")
    assert "\x1b" not in str(caught.value) and not list(tmp_path.iterdir())
    # torch prints the graph so far, in a hundred lines.
    assert capfd.readouterr() == ("", "")


def test_several_labels_agree_where_all_reach_their_thresholds_alike(tmp_path: Path) -> None:
    class Certain(nn.Module):
        """All labels are as good as certain, and only rounding puts them in an order."""

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[:, 0, 0, :2].sin() * 1e-4 + 17

    certain = Classifier(Certain(), Preprocessing(16, 16), ("a", "b"), thresholds=(0.5, 0.5))
    export_onnx(certain, tmp_path / "model.onnx")
    assert check_parity(certain, tmp_path / "model.onnx").same_class == 24


class _Counting(nn.Module):
    """Uses the number of images as Python code does, or as a constant from then on."""

    def __init__(self, count: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.token, self.count = nn.Parameter(torch.rand(1, 2)), count
        self.last = nn.Linear(12, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs[:, 0, 0, :10]
        values: Tensor = self.last(torch.cat([self.token.expand(self.count(rows), -1), rows], 1))
        return values


def test_a_network_that_counts_its_images_takes_any_number_in_its_file(tmp_path: Path) -> None:
    counting = Classifier(_Counting(len), Preprocessing(16, 16), ("a", "b"))
    export_onnx(counting, tmp_path / "model.onnx")
    assert check_parity(counting, tmp_path / "model.onnx").difference < 1e-6


def test_a_network_that_counts_its_images_and_ends_in_a_softmax_takes_any_number(
    tmp_path: Path,
) -> None:
    net = nn.Sequential(_Counting(len), nn.Softmax(1))
    with pytest.warns(GlasshouseWarning, match="ends in a softmax"):
        counting = Classifier(net, Preprocessing(16, 16), ("a", "b"))
    export_onnx(counting, tmp_path / "model.onnx")
    assert check_parity(counting, tmp_path / "model.onnx").difference < 1e-6


class _Told(_Counting):
    """Counts its images, and asks Python's library for a number that no tracer follows."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) * float(np.random.default_rng(0).random())


class _Random(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        # Of many values, so that they are never all dropped.
        kept = nn.functional.dropout(inputs.flatten(1) + 9, 0.5, training=True)
        return torch.stack([half.mean(1) for half in kept.chunk(2, 1)], 1)


class _Doubling(nn.Module):
    """Doubles its answer where a number of images is so."""

    def __init__(self, is_so: Callable[[int], bool]) -> None:
        super().__init__()
        self.is_so, self.last = is_so, nn.Linear(10, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        values: Tensor = self.last(inputs[:, 0, 0, :10])
        return values * 2 if self.is_so(inputs.shape[0]) else values


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (
            lambda: _Counting(lambda rows: sum(1 for _ in rows)),
            r"exactly two: use images\.shape\[0\].* in place of a loop .*into them$",
        ),
        (lambda: _Told(len), r"exactly two: .*Python code failed: "),
        (lambda: _Doubling(lambda count: count > 4), "another way for some numbers.*at most 4"),
        (lambda: _Doubling(lambda count: count == 1), "another way for some.*1 image is another"),
        (lambda: _Doubling(lambda count: count % 2 == 1), "another way for some numbers of images"),
        (_Random, "its answers are random.* as dropout that is always on"),
    ],
)
def test_a_file_for_some_numbers_of_images_only_is_refused_with_the_reason(
    net: Callable[[], nn.Module], said: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings(action="ignore"):
        limited = Classifier(net(), Preprocessing(16, 16), ("a", "b"))
    with pytest.raises(ModelError, match=said):
        export_onnx(limited, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_operation_that_onnx_does_not_have_is_named(tmp_path: Path) -> None:
    class Rooted(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            values: Tensor = torch.linalg.eigvals(inputs[:, 0, :4, :4]).real[:, :2]
            return values

    classifier = Classifier(Rooted(), Preprocessing(16, 16), ("a", "b"))
    with pytest.raises(ModelError, match=r"ONNX has no operation aten\.linalg_eig;") as caught:
        export_onnx(classifier, tmp_path / "x.onnx")
    assert "\x1b" not in str(caught.value)


def test_the_file_has_the_opset_that_is_asked_for_or_is_refused(
    classifier: Classifier, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    export_onnx(classifier, path, opset=18)
    versions = {each.domain: each.version for each in onnx.load(path).opset_import}
    assert versions[""] == 18
    assert check_parity(classifier, path).difference < 1e-6
    with pytest.raises(ModelError, match=r"cannot be written in opset 99, .* use --opset \d+"):
        export_onnx(classifier, tmp_path / "other.onnx", opset=99)
    assert not (tmp_path / "other.onnx").exists()
    assert "Traceback" not in capfd.readouterr().err


def test_an_invalid_graph_of_the_exporter_is_refused_without_a_file(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def invalid(model: object) -> None:
        raise onnx.checker.ValidationError("Nodes in a graph must be topologically sorted")

    monkeypatch.setattr(onnx.checker, "check_model", invalid)
    with pytest.raises(ModelError, match="cannot be exported to ONNX: Nodes in a graph must be"):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_without_answers_writes_no_file(classifier: Classifier, tmp_path: Path) -> None:
    last = classifier.net[-1]  # type: ignore[index]
    last.weight.data[0, 0] = float("nan")
    with pytest.raises(NotFinite, match="logits are NaN or infinite"):
        export_onnx(classifier, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
