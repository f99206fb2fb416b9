"""Where the logits are in what a network returns: a tensor, dict, tuple or dataclass."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from glasshouse.errors import ModelError, type_words

# A key or attribute, or the position in a tuple; None for an answer that is a tensor.
Place = str | int | None

_LOGITS = "logits"


def place_of_logits(answer: Any, count: int, class_count: int | None) -> Place:
    """Where in the answer for this number of images the logits are.

    A key or attribute named logits counts first, then the first of a tuple, then the only tensor
    with a row per image; where the classes are known, their number decides. Raises ModelError,
    naming what there is, where that is not clear.
    """
    if isinstance(answer, Tensor):
        return None
    parts = _parts(answer)
    rows = {place: _rows(value, count) for place, value in parts.items()}
    usable = [place for place, value in rows.items() if value is not None]
    if _LOGITS in usable:
        return _LOGITS
    if class_count is not None:
        wanted = (class_count, 1) if class_count == 2 else (class_count,)
        usable = [place for place in usable if rows[place] in wanted]
    if usable and (isinstance(usable[0], int) or len(usable) == 1):
        return usable[0]
    raise ModelError(
        f"expected a network that returns logits (n, classes), received {_described(answer, parts)}"
        ": return a tensor, or a dict with the key 'logits'"
    )


def logits_at(answer: Any, place: Place, count: int) -> Tensor:
    """The logits ``(n, k)`` at a place of an answer; a tensor is taken as it is at any place.

    Raises ModelError for values of another shape.
    """
    value = answer
    if not isinstance(answer, Tensor) and place is not None:
        value = _parts(answer).get(place)
    if not isinstance(value, Tensor) or _rows(value, count) is None:
        if isinstance(value, Tensor) and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            advice = (
                "return a real number per class, such as their abs() or their .real"
                if value.is_complex()
                else "return the floating-point values that they are made of, before argmax or "
                "rounding"
            )
            raise ModelError(
                f"expected logits ({count}, classes) for {count} images, received {kind} values "
                f"{tuple(value.shape)}: {advice}"
            )
        shape = tuple(value.shape) if isinstance(value, Tensor) else None
        received = type_words(value) if shape is None else f"the shape {shape}"
        raise ModelError(
            f"expected logits ({count}, classes) for {count} images, received {received}: end the "
            "network with a global pool or Flatten, then Linear"
        )
    return value.reshape(count, -1)


def _rows(value: Any, count: int) -> int | None:
    """The number of values per image; None unless there is a row for each."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return None
    if value.ndim in (0, 1):
        # A network may squeeze its one output, or its answer for one image.
        return 1 if value.numel() == count else value.numel() if count == 1 else None
    is_row = value.shape[0] == count and value.shape[1:].numel() == max(value.shape[1:])
    return int(value.shape[1:].numel()) if is_row else None


def _parts(answer: Any) -> dict[Place, Any]:
    if isinstance(answer, Mapping):
        return dict(answer)
    if is_dataclass(answer) and not isinstance(answer, type):
        return {each.name: getattr(answer, each.name) for each in fields(answer)}
    named = getattr(answer, _LOGITS, None)
    found: dict[Place, Any] = {} if named is None else {_LOGITS: named}
    return {**found, **dict(enumerate(answer))} if isinstance(answer, tuple | list) else found


def _described(answer: Any, parts: Mapping[Place, Any]) -> str:
    kind = type_words(answer)
    if not parts:
        return kind
    shapes = (
        f"{place}: {tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__}"
        for place, v in parts.items()
    )
    return f"{kind} ({', '.join(shapes)})"
