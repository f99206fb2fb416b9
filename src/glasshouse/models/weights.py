"""Strict loading of weights: keys that do not fit, and values that are no weights, are named."""

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from glasshouse.errors import ModelError, NotFinite, WrongWeights
from glasshouse.models.forward import negative_variances
from glasshouse.models.weight_names import without_prefix
from glasshouse.wording import first_of

# Many files are older than this counter, which only counts updates of the statistics.
COUNTER = "num_batches_tracked"


def load_weights(
    net: nn.Module,
    weights: Mapping[str, Tensor],
    source: object,
    *,
    replaceable: Collection[str] = (),
) -> tuple[str, ...]:
    """Copy the weights into the network, in its own precision; returns notes.

    Prefixes of wrappers are removed. replaceable: keys of the head, which keeps its own values if
    the number of classes differs. Raises WrongWeights that names the first keys that are missing,
    unexpected or of another shape, ModelError for integers in place of weights and negative
    variances, and NotFinite for NaN or infinity; the network is then unchanged.
    """
    expected = net.state_dict()
    weights, removed = without_prefix(weights, expected, source)
    weights, notes = _without_other_head(expected, weights, replaceable)
    kept = {key: value for key, value in expected.items() if key.endswith(COUNTER) or key in notes}
    whole = {**kept, **weights}
    problems = [
        *_listed("missing", [key for key in expected if key not in whole]),
        *_listed("unexpected", [key for key in whole if key not in expected]),
        *_listed("of another shape", _misshapen(expected, whole)),
    ]
    if problems:
        raise WrongWeights(
            f"{source} does not match the network: {'; '.join(problems)}. "
            "Load it into the architecture that it was trained with."
        )
    _require_usable(expected, weights, source)
    net.load_state_dict(whole, strict=True)
    return *removed, *dict.fromkeys(notes.values())


def _require_usable(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: object
) -> None:
    """Raise ModelError for the first tensor whose values cannot be the network's."""
    for key, own in expected.items():
        given = weights.get(key)
        if given is None or key.endswith(COUNTER):
            continue
        kind = str(given.dtype).removeprefix("torch.")
        if own.is_floating_point() and not given.is_floating_point():
            if given.is_complex():
                words = "expected real numbers: use the weights of a real-valued network"
            else:
                words = "expected floating-point numbers: the file is quantised. Use the weights as"
                words += " they were before"
            raise ModelError(f"{source}: {key} has values of type {kind}, {words}")
        values = given.to(own.dtype)  # in which a value may be too large
        bad = ~values.isfinite()
        # A few buffers, such as masks, are infinite by themselves.
        if bad.any() and not torch.equal(values[bad], own.cpu()[bad]):
            count = int(bad.sum())
            raise NotFinite(
                f"{source}: {key} has {count} of {values.numel()} values that are NaN or infinite, "
                "as after training that has diverged, or in a damaged file. Use other weights"
            )
        if count := negative_variances(key, values):
            raise ModelError(
                f"{source}: {key} has {count} of {values.numel()} values that are negative, which "
                "a variance is never, as in a damaged file. Use other weights"
            )
        if not own.is_floating_point() and not (given == values).all():
            raise ModelError(f"{source}: {key} has values that are not {own.dtype} numbers")


def _without_other_head(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], replaceable: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights without a head for other classes, and a note for each key that was dropped."""
    head = [key for key in expected if key in replaceable]
    if all(key in weights and weights[key].shape == expected[key].shape for key in head):
        return dict(weights), {}
    there, here = (_rows(head, tensors) for tensors in (weights, expected))
    note = (
        f"the head was replaced by an untrained one ({there} -> {here} classes): {', '.join(head)}"
        if there
        else f"the file has no head; the head is untrained: {', '.join(head)}"
    )
    rest = {key: value for key, value in weights.items() if key not in head}
    return rest, dict.fromkeys(head, note)


def _rows(head: list[str], tensors: Mapping[str, Tensor]) -> int:
    return next((int(tensors[key].shape[0]) for key in head if key in tensors), 0)


def _misshapen(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{key} is {_shape(weights[key])}, expected {_shape(value)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]


def _listed(what: str, names: Iterable[str], shown: int = 3) -> list[str]:
    names = list(names)
    if not names:
        return []
    return [f"{len(names)} {what}: {first_of(names, shown)}"]


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a single number"
