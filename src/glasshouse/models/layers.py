"""Build a network from layer settings; shapes are checked on the way, and errors name the layer."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glasshouse import settings
from glasshouse.errors import ModelError, require_type
from glasshouse.models.final_softmax import logit_layers
from glasshouse.models.presets import listed_layers
from glasshouse.models.sequential import LayerError, make_torch
from glasshouse.rng import derive
from glasshouse.settings import Activation, Layer, ModelSettings

Shape = tuple[int, ...]
# Modules with the kinds that their names are made of.
Parts = list[tuple[str, nn.Module]]
Pair = tuple[int, int]

# Slopes and approximations follow Keras 3.
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(dim=1),
}


class ResidualSum(nn.Module):
    """The output of the body plus its input, through a shortcut that matches the shapes."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature maps ``(n, c, h, w)`` or rows ``(n, c)``."""
        total: Tensor = self.body(inputs) + self.shortcut(inputs)
        return total


class WhiteningLayer(nn.Conv2d):
    """A convolution with fixed kernels, set by ``fit_whitening``; only its bias is trained."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, 2 * channels * kernel_size**2, kernel_size)
        # A buffer, so that it is saved and moved with the network but never trained.
        _fix(self, "weight")
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]


class RescalingLayer(nn.Module):
    """Multiplication by a constant."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Accepts any shape."""
        return inputs * self.scale


class PaddedAveragePool(nn.Module):
    """The mean of each window, counting only pixels inside the image, as TensorFlow does."""

    def __init__(self, pool_size: Pair, strides: Pair, padding: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.pool_size: Pair = pool_size
        self.strides: Pair = strides
        self.padding: tuple[int, int, int, int] = padding

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature maps ``(n, c, h, w)``; padding is left, right, top, bottom."""
        inside = self._pool(torch.ones_like(inputs[:1, :1]))
        return self._pool(inputs) / inside

    def _pool(self, maps: Tensor) -> Tensor:
        padded = nn.functional.pad(maps, self.padding)
        return nn.functional.avg_pool2d(padded, self.pool_size, self.strides)


def build(
    settings: ModelSettings,
    class_count: int,
    input_shape: tuple[int, int, int],
    *,
    seed: int,
    unset: bool = False,
) -> nn.Sequential:
    """Build a network from float ``(n, *input_shape)`` to logits ``(n, class_count)``.

    Equal seeds give equal weights; the global random state is left unchanged. Layers of torch.nn
    keep torch's initialisation. unset: leave the weights as the memory is, for those that are
    loaded next. Raises ModelError that names the layer and its input shape.
    """
    require_type(settings, ModelSettings, "model settings, such as recipe.model")
    layers = layers_of(settings)
    plan = _Plan(class_count, settings.initialization, seed)
    # torch's constructors draw from the global generator and accept no other one.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if unset else "cpu"):
        net, shape = _stack(layers, tuple(input_shape), plan, ())
    if shape != (class_count,):
        raise ModelError(
            f"the last layer ({layers[-1].type}) returns the shape {_text(shape)}, but there are "
            f'{class_count} classes. End with a dense layer with units = "classes".'
        )
    return net


@dataclass(frozen=True)
class _Plan:
    """What all layers of one network have in common."""

    class_count: int
    initialization: str
    seed: int


def layers_of(settings: ModelSettings) -> tuple[Layer, ...]:
    """The layers of a network, those of its preset, without a final softmax."""
    layers = listed_layers(settings)
    if not layers:
        raise ModelError("model.layers is empty: expected at least one layer")
    return logit_layers(layers)


def _stack(
    layers: tuple[Layer, ...], shape: Shape, plan: _Plan, path: tuple[int, ...]
) -> tuple[nn.Sequential, Shape]:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    counts: Counter[str] = Counter()
    for position, layer in enumerate(layers, start=1):
        place, input_shape = (*path, position), shape
        # Per layer, so that a change of one layer leaves the initial weights of the others alone.
        torch.default_generator.manual_seed(derive(plan.seed, "weights", *place))
        try:
            for kind, module in _PARTS[type(layer)](layer, shape, plan, place):
                counts[kind] += 1
                _add(modules, getattr(layer, "label", None) or f"{kind}{counts[kind]}", module)
                shape = _output_shape(module, shape)
        except LayerError as error:
            where = ".".join(str(part) for part in place)
            raise ModelError(
                f"layer {where} ({layer.type}) with the input shape {_text(input_shape)}: {error}"
            ) from error
    return nn.Sequential(modules), shape


def _add(modules: "OrderedDict[str, nn.Module]", name: str, module: nn.Module) -> None:
    if name in modules:
        raise LayerError(f"the label '{name}' is used twice; give each layer a different one")
    modules[name] = module


def _output_shape(module: nn.Module, shape: Shape) -> Shape:
    # Running the layer avoids a second set of shape formulas, which could disagree with torch.
    # In evaluation mode: batch normalisation refuses a single image, and would keep its statistics.
    module.eval()
    is_meta = torch.get_default_device().type == "meta"
    try:
        with torch.no_grad(), torch.device("cpu"):
            output = _without_images(module, shape) if is_meta else module(torch.zeros(1, *shape))
    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise LayerError(f"it does not accept this shape ({str(error).splitlines()[0]})") from error
    finally:
        module.train()
    is_stack = isinstance(output, Tensor) and output.shape[:1] == (0 if is_meta else 1,)
    if not is_stack or 0 in output.shape[1:]:
        raise LayerError("expected one vector or one stack of feature maps per image as its output")
    return tuple(output.shape[1:])


def _without_images(module: nn.Module, shape: Shape) -> Tensor:
    """What the module returns for a batch of no images: a shape, and no feature maps in memory."""
    # Not run on the meta device, where torch imports sympy, which takes a second.
    planned = module.state_dict()
    if sum(value.numel() for value in planned.values()) > 2**28:
        raise LayerError("it would have more than 1 GiB of weights")
    # The system gives memory to what is written to; these values are not, until they are loaded.
    unset = {key: torch.empty(value.shape, dtype=value.dtype) for key, value in planned.items()}
    module.load_state_dict(unset, assign=True)
    output: Tensor = module(torch.zeros(0, *shape))
    return output


def _conv(layer: settings.Conv, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    channels = _maps(shape)[0]
    if channels % layer.groups or layer.filters % layer.groups:
        raise LayerError(
            f"groups = {layer.groups} must divide both the {channels} input channels and "
            f"filters = {layer.filters}"
        )
    kernel, strides = _pair(layer.kernel_size), _pair(layer.strides)
    left, right, top, bottom = _padding(layer.padding, shape, kernel, strides)
    # nn.Conv2d pads both sides alike; TensorFlow's odd pixel needs a layer of its own.
    is_even = (left, top) == (right, bottom)
    module = nn.Conv2d(
        channels, layer.filters, kernel, strides, (top, left) if is_even else 0,
        groups=layer.groups, bias=layer.use_bias,
    )  # fmt: skip
    _initialise(module, plan, place)
    padding: Parts = [] if is_even else [("pad", nn.ZeroPad2d((left, right, top, bottom)))]
    return [*padding, ("conv", module), *_activation(layer.activation)]


def _pool(layer: settings.Pool, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    window = _pair(layer.pool_size)
    strides = window if layer.strides is None else _pair(layer.strides)
    left, right, top, bottom = padding = _padding(layer.padding, shape, window, strides)
    is_max = layer.type == "max_pool"
    if (left, top) == (right, bottom):
        if is_max:
            return [(layer.type, nn.MaxPool2d(window, strides, (top, left)))]
        return [(layer.type, nn.AvgPool2d(window, strides, (top, left), count_include_pad=False))]
    if is_max:
        # Zeros would win against negative values.
        pad = nn.ConstantPad2d(padding, -math.inf)
        return [("pad", pad), (layer.type, nn.MaxPool2d(window, strides))]
    return [(layer.type, PaddedAveragePool(window, strides, padding))]


def _global_pool(
    layer: settings.GlobalPool, shape: Shape, plan: _Plan, place: tuple[int, ...]
) -> Parts:
    _maps(shape)
    is_max = layer.type == "global_max_pool"
    pool = nn.AdaptiveMaxPool2d(1) if is_max else nn.AdaptiveAvgPool2d(1)
    return [(layer.type, pool), ("flatten", nn.Flatten())]


def _batch_norm(
    layer: settings.BatchNorm, shape: Shape, plan: _Plan, place: tuple[int, ...]
) -> Parts:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    # torch's momentum is the weight of the new statistics, Keras's that of the old ones.
    module = kind(shape[0], eps=layer.epsilon, momentum=1 - layer.momentum)
    if not layer.scale:
        _fix(module, "weight")
    return [("batch_norm", module)]


def _whitening(
    layer: settings.Whitening, shape: Shape, plan: _Plan, place: tuple[int, ...]
) -> Parts:
    channels, height, width = _maps(shape)
    if place != (1,):
        raise LayerError("it is fitted to the input images, so it must be the first layer")
    if min(height, width) < layer.kernel_size:
        raise LayerError(f"its kernel_size of {layer.kernel_size} is larger than the image")
    return [("whitening", WhiteningLayer(channels, layer.kernel_size))]


def _rescaling(
    layer: settings.Rescaling, shape: Shape, plan: _Plan, place: tuple[int, ...]
) -> Parts:
    return [("rescaling", RescalingLayer(layer.scale))]


def _activation_layer(
    layer: settings.ActivationLayer, shape: Shape, plan: _Plan, place: tuple[int, ...]
) -> Parts:
    return _activation(layer.activation)


def _dropout(layer: settings.Dropout, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    return [("dropout", nn.Dropout(layer.rate))]


def _flatten(layer: settings.Flatten, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    return [("flatten", nn.Flatten())]


def _dense(layer: settings.Dense, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    if len(shape) != 1:
        raise LayerError("it needs a vector per image; put a flatten or a global pool before it")
    units = plan.class_count if layer.units == "classes" else layer.units
    module = nn.Linear(shape[0], units, bias=layer.use_bias)
    _initialise(module, plan, place)
    return [("dense", module), *_activation(layer.activation)]


def _residual(layer: settings.Residual, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    if not layer.layers:
        raise LayerError("it has no layers")
    body, output_shape = _stack(layer.layers, shape, plan, place)
    shortcut = nn.Identity() if output_shape == shape else _shortcut(shape, output_shape)
    if isinstance(shortcut, nn.Conv2d):
        _initialise(shortcut, plan, (*place, 0))
    return [("residual", ResidualSum(body, shortcut)), *_activation(layer.activation)]


def _shortcut(shape: Shape, wanted: Shape) -> nn.Conv2d:
    if len(shape) == len(wanted) == 3:
        strides = (math.ceil(shape[1] / wanted[1]), math.ceil(shape[2] / wanted[2]))
        reached = (math.ceil(shape[1] / strides[0]), math.ceil(shape[2] / strides[1]))
        if reached == wanted[1:]:
            return nn.Conv2d(shape[0], wanted[0], 1, strides)
    raise LayerError(
        f"its layers return the shape {_text(wanted)}, to which its input cannot be added. "
        'Use padding = "same", and strides that divide the shape'
    )


def _torch(layer: settings.TorchLayer, shape: Shape, plan: _Plan, place: tuple[int, ...]) -> Parts:
    kind = layer.name.lower()
    if layer.name == "Sequential":
        return [(kind, _stack(layer.layers, shape, plan, place)[0])]
    return [(kind, make_torch(layer))]


def _initialise(module: nn.Conv2d | nn.Linear, plan: _Plan, place: tuple[int, ...]) -> None:
    """Glorot uniform and zero biases as in Keras, or torch's own initialisation.

    With "identity", the first filters of a convolution each copy one channel (Jordan 2024).
    """
    if plan.initialization == "identity" and isinstance(module, nn.Conv2d) and module.groups == 1:
        nn.init.dirac_(module.weight[: module.in_channels])
    if plan.initialization != "keras" or module.weight.is_meta:
        return
    # A generator of its own: torch's constructor has drawn a varying amount from the global one.
    generator = torch.Generator().manual_seed(derive(plan.seed, "weights", *place))
    nn.init.xavier_uniform_(module.weight, generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _fix(module: nn.Module, name: str) -> None:
    """Turn a parameter into a buffer of the same name, which is neither trained nor unfrozen."""
    values = getattr(module, name).detach()
    delattr(module, name)
    module.register_buffer(name, values)


def _activation(name: Activation) -> Parts:
    return [] if name == "linear" else [(name, ACTIVATIONS[name]())]


def _maps(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise LayerError("it needs feature maps (channels, height, width), but its input is flat")
    return shape[0], shape[1], shape[2]


def _padding(kind: str, shape: Shape, window: Pair, strides: Pair) -> tuple[int, int, int, int]:
    """Padding left, right, top and bottom; "same" is TensorFlow's, with an odd pixel at the end."""
    _, height, width = _maps(shape)
    if kind == "same":
        return (*_same(width, window[1], strides[1]), *_same(height, window[0], strides[0]))
    if window[0] > height or window[1] > width:
        raise LayerError(
            f"its window of {window[0]}x{window[1]} is larger than its input of {height}x{width}. "
            'Use padding = "same", a smaller window, fewer pools or larger images'
        )
    return 0, 0, 0, 0


def _same(size: int, window: int, stride: int) -> Pair:
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size


def _text(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)


_PARTS: dict[type, Callable[[Any, Shape, _Plan, tuple[int, ...]], Parts]] = {
    settings.Conv: _conv,
    settings.Pool: _pool,
    settings.GlobalPool: _global_pool,
    settings.BatchNorm: _batch_norm,
    settings.Whitening: _whitening,
    settings.Rescaling: _rescaling,
    settings.ActivationLayer: _activation_layer,
    settings.Dropout: _dropout,
    settings.Flatten: _flatten,
    settings.Dense: _dense,
    settings.Residual: _residual,
    settings.TorchLayer: _torch,
}
