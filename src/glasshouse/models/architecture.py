"""A network of layers as plain data in model.json, and back."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from torch import nn

from glasshouse.errors import ModelError
from glasshouse.models.layers import build, layers_of
from glasshouse.setting_errors import explain_problems
from glasshouse.settings import ModelSettings

# Far above any network for images; a damaged file must not make torch overflow.
_MOST = 2**31


def architecture_of(
    settings: ModelSettings, class_count: int, input_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """What ``build_architecture`` needs to build the same network again, as JSON values."""
    layers = [layer.model_dump(mode="json", exclude_none=True) for layer in layers_of(settings)]
    return {"layers": layers, "class_count": class_count, "input_shape": list(input_shape)}


def build_architecture(architecture: Mapping[str, Any], *, unset: bool = False) -> nn.Sequential:
    """The described network with its keys and shapes, before its weights are loaded.

    unset: leave the weights as the memory is; sizes that only a damaged file asks for then take
    none. Raises ModelError when the description is not valid.
    """
    try:
        settings = ModelSettings.model_validate({"layers": architecture["layers"]})
        class_count = int(architecture["class_count"])
        channels, height, width = (int(size) for size in architecture["input_shape"])
        if not all(0 < size < _MOST for size in (class_count, channels, height, width)):
            raise ValueError("sizes must be positive")
        return build(settings, class_count, (channels, height, width), seed=0, unset=unset)
    except ValidationError as error:
        problems = "; ".join(explain_problems(error, architecture, ModelSettings))
        raise ModelError(f"the architecture does not describe a network: {problems}") from error
    except (
        KeyError, TypeError, AttributeError, ValueError, OverflowError, RuntimeError,
    ) as error:  # fmt: skip
        raise ModelError(f"the architecture does not describe a network: {error}") from error
