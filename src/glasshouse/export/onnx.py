"""Export of a classifier as one ONNX file, from decoded images to probabilities."""

import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glasshouse.errors import ModelError, UsageError
from glasshouse.export.unknown_outputs import P_VALUE, UNUSUAL, UnknownOutputs, unknown_facts
from glasshouse.models.classifier import Classifier, scale
from glasshouse.models.conformity import SetRule
from glasshouse.models.predict import evaluating, logits_of
from glasshouse.models.unusual_scores import UnknownMeasure
from glasshouse.storage import write_bytes
from glasshouse.wording import pluralize

IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
_OPSET = 20
# Of the prediction sets that the metadata describe.
_COVERAGES = (0.8, 0.9, 0.95, 0.98, 0.99)
_REFUSED = "this network cannot be exported to ONNX"
# What holds for this many images holds for any number.
_MANY = 1_000_000
# By how much a logit of the file may differ, as a share of the largest, or of 1.
_ALLOWED = 1e-2
_PLAIN_NUMBER = (
    "its forward pass uses the number of images as a plain number, so that the file would take "
    "exactly two: use images.shape[0] in place of len(images) and int(...), and operations on the "
    "whole batch in place of a loop over images or a split into them"
)
_OTHER_WAY = (
    "its forward pass takes another way for some numbers of images, which ONNX cannot express: "
    "compute the same for any number"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_OPERATION = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


class _Whole(nn.Module):
    """What the file computes: normalisation, network, other views if used, temperature.

    measure: how unusual an image is, where the file is to tell that as well.
    """

    def __init__(self, classifier: Classifier, measure: UnknownMeasure | None) -> None:
        super().__init__()
        self.net = classifier.net
        self._preprocessing = classifier.preprocessing
        self._temperature = classifier.temperature
        self._views = classifier.views
        self._is_multi_label = classifier.is_multi_label
        self._unknown = (
            None
            if measure is None
            else UnknownOutputs(measure, classifier.net, several=classifier.is_multi_label)
        )

    @property
    def outputs(self) -> list[str]:
        """The names of what forward returns."""
        more = () if self._unknown is None else (UNUSUAL, P_VALUE)
        return [LOGITS, PROBABILITIES, *more]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 ``(n, 3, h, w)`` to logits and probabilities ``(n, k)``; then scores and p-values.

        The latter ``(n,)``, where they are asked for.
        """
        inputs = scale(images, self._preprocessing)
        logits = self._views.mean(inputs, self.net(inputs), self.net).float()
        scaled = logits / self._temperature
        shares = scaled.sigmoid() if self._is_multi_label else scaled.softmax(1)
        if self._unknown is None:
            return logits, shares
        return logits, shares, *self._unknown(images, inputs, logits)


def in_float32(classifier: Classifier) -> Classifier:
    """The classifier with weights in float32, as its file has them.

    onnxruntime has no convolutions in float64 or bfloat16, and those in float16 round differently.
    """
    if all(each.dtype == torch.float32 for each in classifier.net.parameters()):
        return classifier
    return replace(classifier, net=copy.deepcopy(classifier.net).float())


def export_onnx(
    classifier: Classifier,
    path: str | Path,
    *,
    opset: int | None = None,
    unknown: UnknownMeasure | None = None,
) -> None:
    """Write the classifier as one ONNX file that includes its weights.

    Input: ``images``, uint8 ``(n, 3, h, w)`` of the network's size, any n. Outputs: ``logits`` and
    ``probabilities``, float32 ``(n, k)``. Weights are converted to float32. Class names,
    preprocessing and prediction sets are in the metadata of the file: a class is in the set where
    its probability is at least that of the coverage. opset: the version of ONNX's operators, for an
    older or newer runtime. unknown: also how unusual each image is, as outputs ``unusual`` and
    ``p_value``, float32 ``(n,)``; `unknown_measure` has it of a run. Raises UsageError if the onnx
    extra is not installed, ModelError for a network that cannot be exported, or not in this opset,
    and DataError for a measure without validation images.
    """
    require_extra()
    import onnx

    path = Path(path)
    wanted = classifier.preprocessing
    example = torch.zeros((2, 3, wanted.height, wanted.width), dtype=torch.uint8)
    logits_of(classifier, example.numpy())  # raises NotFinite before there is a file
    with evaluating(classifier.net), _quiet():
        whole = _Whole(in_float32(classifier), unknown).eval()
        model = _graph(whole, example, opset)
        if _is_for_two(model):
            # The number of images became a constant, as by len(); only bytecode keeps it apart.
            model = _graph(whole, example, opset, by_bytecode=True)
        _require_any_number(model, whole, example)
    _require_opset(model, opset)
    facts = _facts(classifier) | ({} if unknown is None else unknown_facts(unknown))
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    try:
        onnx.checker.check_model(model)
        content = model.SerializeToString()
    # The exporter wrote what ONNX does not allow, or more than the 2 GiB of one file.
    except Exception as error:
        raise ModelError(f"{_REFUSED}: {_reason(error)}") from error
    write_bytes(path, content)


def _graph(whole: _Whole, example: Tensor, opset: int | None, *, by_bytecode: bool = False) -> Any:
    """The ONNX model of a network; by_bytecode: its Python is followed instead of a call of it."""
    shapes = ({0: torch.export.Dim("n")},)
    try:
        if by_bytecode:
            made: Any = torch.export.export(whole, (example,), strict=True, dynamic_shapes=shapes)
        else:
            made = whole
        program = torch.onnx.export(
            made,
            () if by_bytecode else (example,),
            dynamo=True,
            verbose=False,
            opset_version=opset or _OPSET,
            input_names=[IMAGES],
            output_names=whole.outputs,
            dynamic_shapes=None if by_bytecode else shapes,
        )
    except Exception as error:
        reason = _bytecode_reason(error) if by_bytecode else _reason(error)
        raise ModelError(f"{_REFUSED}: {reason}") from error
    assert program is not None
    most = _most_images(program.exported_program)
    if most is not None:
        raise ModelError(f"{_REFUSED}: {_OTHER_WAY} (the file would hold for at most {most})")
    return program.model_proto


def _most_images(program: Any) -> int | None:
    """The largest number of images that a graph holds for; None if there is none, or just one."""
    ranges = getattr(program, "range_constraints", {}).values()
    limits = [each.upper for each in ranges if each.lower <= 2 <= each.upper]
    found = [int(limit) for limit in limits if limit < _MANY]
    return min(found, default=None)


def _is_for_two(model: Any) -> bool:
    """Whether a model takes just as many images as the exporter was given."""
    return not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def _require_any_number(model: Any, whole: nn.Module, example: Tensor) -> None:
    """Raise ModelError for a file that answers one image, or three, differently from the network.

    A condition on the number of images is decided for the example's two, and no longer seen.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    # Whether this runtime can run the file at all is a question of its own.
    except Exception:
        return
    random = np.random.default_rng(0)
    for count in (1, 3):
        images = random.integers(0, 256, (count, *example.shape[1:]), dtype=np.uint8)
        with torch.no_grad():
            expected = whole(torch.from_numpy(images))[0].numpy()
        try:
            (found,) = session.run([LOGITS], {IMAGES: images})
        except Exception as error:
            raise ModelError(f"{_REFUSED}: {_OTHER_WAY} ({_reason(error)})") from error
        if not _are_alike(found, expected):
            # Several times, as random answers are the same at times.
            with torch.no_grad():
                again = [whole(torch.from_numpy(images))[0].numpy() for _ in range(8)]
            raise ModelError(
                f"{_REFUSED}: {_OTHER_WAY} (the file's answer for {pluralize(count, 'image')} is "
                "another one)"
                if all(_are_alike(each, expected) for each in again)
                else f"{_REFUSED}: its answers are random, so that no file answers as it does: "
                "leave out what draws random numbers, as dropout that is always on"
            )


def _are_alike(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    allowed = _ALLOWED * max(1.0, float(np.abs(expected).max()))
    # NaN is like nothing.
    return bool(np.abs(found - expected).max() <= allowed)


def require_extra() -> None:
    """Raise UsageError with the command that installs what is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--format onnx needs {error.name}: pip install 'glasshouse[onnx]'"
        ) from error


def _facts(classifier: Classifier) -> dict[str, str]:
    wanted = classifier.preprocessing
    return {
        "class_names": json.dumps(list(classifier.class_names), ensure_ascii=False),
        "resize": wanted.resize,
        "crop_fraction": repr(wanted.crop_fraction),
        "interpolation": wanted.interpolation,
        "rounding": wanted.rounding,
        "temperature": repr(classifier.temperature),
        **_set_facts(classifier),
        # Present where an image may have several labels, each from this probability on.
        **(
            {}
            if classifier.thresholds is None
            else {"thresholds": json.dumps(list(classifier.thresholds))}
        ),
    }


def _set_facts(classifier: Classifier) -> dict[str, str]:
    """The least probability of a class in a prediction set, by coverage; null: any."""
    scores = classifier.conformity
    if scores is None:
        return {}
    rules = [scores.rule(coverage) for coverage in _COVERAGES]
    least = {f"{rule.coverage:g}": _least_probability(rule) for rule in rules}
    facts = {"least_probability": least, "calibrated_on": scores.source, "images": len(scores)}
    return {"prediction_sets": json.dumps(facts, ensure_ascii=False)}


def _least_probability(rule: SetRule) -> float | None:
    return None if rule.unlimited else max(0.0, 1 - rule.limits[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter warns, logs and prints about its internals."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        # Where it fails at a condition, it prints the graph so far to standard error.
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require_opset(model: Any, opset: int | None) -> None:
    """Raise ModelError for another opset, which the exporter keeps where it cannot convert."""
    found = next(int(each.version) for each in model.opset_import if not each.domain)
    if opset is not None and found != opset:
        raise ModelError(
            f"this network cannot be written in opset {opset}, but in opset {found}: use --opset "
            f"{found}, or a runtime that knows it"
        )


def _reason(error: Exception) -> str:
    """What the exporter failed at in the end, and what to do about it."""
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    return _said(inner)


def _bytecode_reason(error: Exception) -> str:
    """Why following the bytecode did not keep the number of images apart either."""
    words = str(error)
    if "Constraints violated" not in words:
        return f"{_PLAIN_NUMBER} (following its Python code failed: {_reason(error)})"
    return _PLAIN_NUMBER if "specialized it to be a constant" in words else _OTHER_WAY


def _said(inner: BaseException) -> str:
    lines = [line.strip() for line in _ANSI.sub("", str(inner)).splitlines() if line.strip()]
    first = (lines[0] if lines else type(inner).__name__).rstrip(".")
    if "data-dependent" in first:
        return (
            "its forward pass takes another way depending on computed values, which ONNX cannot "
            f"express; use torch.where in place of if ({first})"
        )
    operation = _OPERATION.search(first)
    if operation is not None:
        return f"ONNX has no operation {operation[1]}; use another one in the forward pass"
    return f"{first} ({type(inner).__name__})"
