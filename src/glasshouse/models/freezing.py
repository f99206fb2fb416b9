"""Freezing as one idea: parameters, batch statistics and dropout of a part stand still."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from glasshouse.errors import ModelError, did_you_mean

# What the families call the modules that only hold a row of stages.
_CONTAINERS = ("features", "blocks", "stages", "layers", "encoder", "body")
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")


@dataclass(frozen=True)
class Freezing:
    """What can be trained: names of modules, empty for all of them; numbers of parameters."""

    trainable: tuple[str, ...]
    trainable_parameters: int
    frozen_parameters: int

    def __str__(self) -> str:
        """One line for the log of a run."""
        total = self.trainable_parameters + self.frozen_parameters
        share = 100 * self.trainable_parameters / max(total, 1)
        names = ", ".join(self.trainable) or "everything"
        return f"trainable: {names} ({self.trainable_parameters:,} of {total:,}, {share:.1f} %)"


def freeze(
    net: nn.Module, trainable: str | Sequence[str], *, batch_statistics: bool = True
) -> Freezing:
    """Freeze all of the net but a part, whatever was frozen before; changes the net.

    trainable: "all", "head" (the layer that gives the logits), "last-3" (the head and the three
    stages before it), or names of modules. Frozen parameters get no gradient; frozen modules
    compute as in evaluation, also after ``net.train()``: their batch statistics stand still and
    their dropout is off. A dropout belongs to the layer that it feeds. batch_statistics: False
    lets those of trainable parts stand still as well, which few images or small batches need.
    Raises ModelError.
    """
    chosen = _chosen(net, trainable)
    thaw(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(_is_inside(name, chosen))
        if not parameter.requires_grad:
            parameter.grad = None
    still = _still(net)
    if not batch_statistics:
        still.update(module for module in net.modules() if hasattr(module, "running_mean"))
    for module in still:
        module.eval()
        module.register_forward_pre_hook(_stand_still)
    counts = [(p.requires_grad, p.numel()) for p in net.parameters()]
    moving = sum(count for is_trainable, count in counts if is_trainable)
    named = tuple(name for name in chosen if name)
    return Freezing(named, moving, sum(count for _, count in counts) - moving)


def thaw(net: nn.Module) -> None:
    """Undo ``freeze``: every parameter gets gradients, every module follows ``net.train()``."""
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    for module in net.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook is _stand_still:
                del module._forward_pre_hooks[key]
                module.training = net.training


def stages(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The net's parts with parameters, in order, each a tuple of names of modules.

    Rows of blocks are opened; a normalisation belongs to the part before it.
    """
    found: list[tuple[str, ...]] = []
    for name, module in _parts(net, ""):
        if found and _is_norm(module):
            found[-1] = (*found[-1], name)
        else:
            found.append((name,))
    return tuple(found)


def head_of(net: nn.Module) -> tuple[str, ...]:
    """The names of the modules that give the logits: timm says which, else the last layer."""
    marked = tuple(name for name, module in net.named_modules() if hasattr(module, "is_head"))
    if marked:
        return marked
    names = {module: name for name, module in net.named_modules()}
    ask = getattr(net, "get_classifier", None)
    if callable(ask):
        answer = ask()
        heads = answer if isinstance(answer, tuple) else (answer,)
        known = tuple(names[head] for head in heads if _has_parameters(head))
        if known:
            return known
    leaves = [
        name for name, leaf in net.named_modules() if _is_leaf(leaf) and _has_parameters(leaf)
    ]
    if not leaves:
        raise ModelError("the net has no parameters, so nothing can be frozen or trained")
    return (leaves[-1],)


# A hook rather than an own train(): it holds whoever changes the mode, goes along when the net is
# copied, and leaves classes and keys as they are.
def _stand_still(module: nn.Module, inputs: object) -> None:
    module.training = False


def _chosen(net: nn.Module, trainable: str | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(trainable, str):
        return tuple(_checked(net, name) for name in trainable)
    if trainable == "all":
        return ("",)
    if trainable == "head":
        return head_of(net)
    if match := re.fullmatch(r"last-(\d+)", trainable):
        return _last(net, int(match[1]))
    return tuple(_checked(net, name.strip()) for name in trainable.split(","))


def _last(net: nn.Module, count: int) -> tuple[str, ...]:
    head = head_of(net)
    parts = stages(net)
    body = [stage for stage in parts if not any(_is_inside(name, stage) for name in head)]
    if not 1 <= count <= len(body):
        raise ModelError(f"last-{count}: the net has {len(body)} stages before its head")
    # What stands in one part with the head, such as the dense layers before it, moves too.
    wanted = [*body[-count:], *(stage for stage in parts if stage not in body)]
    return tuple(name for stage in wanted for name in stage)


def _checked(net: nn.Module, name: str) -> str:
    known = dict(net.named_modules())
    if name and name in known and _has_parameters(known[name]):
        return name
    what = "has no parameters" if name in known else "is no module of the net"
    options = [each for stage in stages(net) for each in stage]
    hint = did_you_mean(name, options)
    hint = hint if hint.startswith("Did") else f"Its parts are {', '.join(options)}."
    raise ModelError(
        f'cannot train \'{name}\': it {what}. Expected "all", "head", "last-N" or names. {hint}'
    )


def _still(net: nn.Module) -> set[nn.Module]:
    """The modules that compute as in evaluation, from which parameters are trainable.

    A module whose parameters are all frozen stands still with all inside it; one without
    parameters follows the layer that it feeds.
    """
    still: set[nn.Module] = set()
    feeds_moving = False
    # Backwards, so that what a module feeds is known when it is reached.
    for module in reversed(list(net.modules())):
        own = list(module.parameters(recurse=False))
        feeds_moving = any(p.requires_grad for p in own) if own else feeds_moving
        if _has_parameters(module):
            if not any(p.requires_grad for p in module.parameters()):
                still.update(module.modules())
        elif _is_leaf(module) and not feeds_moving:
            still.add(module)
    return still


def _parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if not _has_parameters(child):
            continue
        if name in _CONTAINERS and not _is_leaf(child):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _is_inside(name: str, chosen: Sequence[str]) -> bool:
    return any(not part or name == part or name.startswith(f"{part}.") for part in chosen)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _is_norm(module: nn.Module) -> bool:
    return any(norm in type(module).__name__ for norm in _NORMS)
