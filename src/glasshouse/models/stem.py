"""A finer stem: first layers that keep the resolution of images smaller than the network's own."""

from dataclasses import dataclass

from torch import nn

from glasshouse.errors import ModelError

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Stem:
    """The first layers that halve the resolution: a convolution, and a pooling if it comes next.

    factor: how many times larger per side the maps are without them.
    """

    convolution: str
    pooling: str | None

    @property
    def factor(self) -> int:
        """2 for the convolution alone, 4 with the pooling."""
        return 2 if self.pooling is None else 4


def stem_of(net: nn.Module) -> Stem | None:
    """The stem of a network that begins with a convolution of stride 2; None for others.

    Networks that cut images into patches have none: their strides are 4 or more, and their weights
    expect a fixed number of patches.
    """
    coarse = [(name, module) for name, module in net.named_modules() if _halves(module)]
    if not coarse or not isinstance(coarse[0][1], nn.Conv2d) or coarse[0][1].stride != (2, 2):
        return None
    follows = coarse[1] if len(coarse) > 1 else None
    is_pooled = follows is not None and isinstance(follows[1], _POOLS)
    return Stem(coarse[0][0], follows[0] if follows is not None and is_pooled else None)


def refine_stem(net: nn.Module) -> Stem:
    """Let the stem keep the resolution of the images, in place.

    The convolution gets stride 1 and the pooling is removed, so that small images give maps as
    large as those of a larger image; weights and their names are unchanged (as He et al. 2016 did
    for CIFAR). Raises ModelError for a network without such a stem.
    """
    stem = stem_of(net)
    if stem is None:
        raise ModelError(
            "model.pretrained.stem = 'fine': expected a network that begins with a convolution of "
            f"stride 2, received {type(net).__name__}, which does not; set "
            "model.pretrained.input_size to enlarge its input instead"
        )
    convolution = net.get_submodule(stem.convolution)
    assert isinstance(convolution, nn.Conv2d)
    # Changed rather than replaced, so that the names of its weights stay the same.
    convolution.stride = (1, 1)
    if stem.pooling is not None:
        net.set_submodule(stem.pooling, nn.Identity())
    return stem


def _halves(module: nn.Module) -> bool:
    """True for layers that reduce the resolution by a stride."""
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return False
    stride = module.stride if isinstance(module.stride, tuple) else (module.stride, module.stride)
    return max(stride) > 1
