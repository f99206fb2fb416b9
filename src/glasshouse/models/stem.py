"""The first layers of a net made finer, for images smaller than those it was trained on."""

from dataclasses import dataclass

from torch import nn

from glasshouse.errors import ModelError

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Stem:
    """What halves the maps first: a convolution, and a pooling before the next such step.

    factor: how many times finer, a side, the maps are without them.
    """

    convolution: str
    pooling: str | None

    @property
    def factor(self) -> int:
        """2 for the convolution alone, 4 with the pooling."""
        return 2 if self.pooling is None else 4


def stem_of(net: nn.Module) -> Stem | None:
    """The stem of a net that begins with a convolution of stride 2; None for other nets.

    Those that cut images into patches are among the others: their strides are 4 and more, and
    their weights expect a certain number of patches.
    """
    coarse = [(name, module) for name, module in net.named_modules() if _halves(module)]
    if not coarse or not isinstance(coarse[0][1], nn.Conv2d) or coarse[0][1].stride != (2, 2):
        return None
    follows = coarse[1] if len(coarse) > 1 else None
    is_pooled = follows is not None and isinstance(follows[1], _POOLS)
    return Stem(coarse[0][0], follows[0] if follows is not None and is_pooled else None)


def refine_stem(net: nn.Module) -> Stem:
    """Let the stem keep the resolution of the images, changing the net.

    The convolution gets stride 1 and the pooling is left out, so that small images give maps as
    large as a larger image would; the weights, and their names, stay as they are (as He et al.
    2016 did for CIFAR). Raises ModelError for a net without such a stem.
    """
    stem = stem_of(net)
    if stem is None:
        raise ModelError(
            "model.pretrained.stem = 'fine': expected a net that begins with a convolution of "
            f"stride 2, got {type(net).__name__}, which does not; set model.pretrained.input_size "
            "to enlarge its images instead"
        )
    convolution = net.get_submodule(stem.convolution)
    assert isinstance(convolution, nn.Conv2d)
    convolution.stride = (1, 1)
    if stem.pooling is not None:
        net.set_submodule(stem.pooling, nn.Identity())
    return stem


def _halves(module: nn.Module) -> bool:
    """True for what makes maps smaller by a stride."""
    if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return False
    stride = module.stride if isinstance(module.stride, tuple) else (module.stride, module.stride)
    return max(stride) > 1
