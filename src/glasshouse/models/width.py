"""Scale the width of a network: the same layers with more or fewer filters."""

from collections.abc import Iterator

from glasshouse.errors import RecipeError
from glasshouse.models.presets import preset_layers
from glasshouse.settings import Conv, Dense, Layer, ModelSettings, Residual


def widened(model: ModelSettings, factor: float) -> ModelSettings:
    """The same layers with ``factor`` times as many filters and units, at least one each.

    Raises RecipeError for what cannot be scaled: pretrained networks, torch layers and groups.
    """
    if model.pretrained is not None:
        raise RecipeError(f"the width of the pretrained network {model.pretrained.name} is fixed")
    if model.code is not None:
        raise RecipeError(f"the width of the network of {model.code} is fixed")
    layers = model.layers if model.layers is not None else preset_layers(str(model.preset))
    scaled = tuple(_widened(layer, factor) for layer in layers)
    return model.model_copy(update={"preset": None, "layers": _with_old_end(layers, scaled)})


def first_filters(model: ModelSettings) -> int | None:
    """The filters of the first convolution; None without one, or if the width is fixed."""
    if model.pretrained is not None or model.code is not None:
        return None
    layers = model.layers if model.layers is not None else preset_layers(str(model.preset))
    return next(_filters_in(layers), None)


def _filters_in(layers: tuple[Layer, ...]) -> Iterator[int]:
    for layer in layers:
        if isinstance(layer, Conv):
            yield layer.filters
        elif isinstance(layer, Residual):
            yield from _filters_in(layer.layers)


def _widened(layer: Layer, factor: float) -> Layer:
    if isinstance(layer, Residual):
        return layer.model_copy(
            update={"layers": tuple(_widened(inner, factor) for inner in layer.layers)}
        )
    # The arguments of a torch layer include channels of its neighbours; groups must divide them.
    if layer.type == "torch" or (isinstance(layer, Conv) and layer.groups > 1):
        raise RecipeError(
            f"the width of a layer of type {layer.type} cannot be scaled"
            + (" with groups" if isinstance(layer, Conv) else "")
            + "; choose another preset with model.preset instead"
        )
    if isinstance(layer, Conv):
        return layer.model_copy(update={"filters": max(1, round(layer.filters * factor))})
    if isinstance(layer, Dense) and isinstance(layer.units, int):
        return layer.model_copy(update={"units": max(1, round(layer.units * factor))})
    return layer


def _with_old_end(layers: tuple[Layer, ...], scaled: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The scaled layers, except the last convolution or dense layer, which returns the logits."""
    for place in range(len(layers) - 1, -1, -1):
        if isinstance(layers[place], (Conv, Dense)):
            return (*scaled[:place], layers[place], *scaled[place + 1 :])
    return scaled
