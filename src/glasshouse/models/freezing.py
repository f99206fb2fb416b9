"""Freezing of layers: their parameters, their batch statistics and their dropout."""

import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from glasshouse.errors import ModelError, did_you_mean

# Names that architectures give to modules that only contain a sequence of stages.
_CONTAINERS = ("features", "blocks", "stages", "layers", "encoder", "body")
_NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm")


@dataclass(frozen=True)
class Freezing:
    """What is trainable: names of modules, empty for all of them; and numbers of parameters."""

    trainable: tuple[str, ...]
    trainable_parameters: int
    frozen_parameters: int

    def __str__(self) -> str:
        """A line for the log of a run."""
        total = self.trainable_parameters + self.frozen_parameters
        share = 100 * self.trainable_parameters / max(total, 1)
        names = ", ".join(self.trainable) or "everything"
        return f"trainable: {names} ({self.trainable_parameters:,} of {total:,}, {share:.1f} %)"


def freeze(
    net: nn.Module, trainable: str | Sequence[str], *, batch_statistics: bool = True
) -> Freezing:
    """Freeze all of a network except some modules, in place; replaces earlier freezing.

    trainable: "all", "head" (the layer that returns the logits), "last-3" (the head and the three
    stages before it), or names of modules. Frozen parameters get no gradient. Frozen modules
    compute as in evaluation mode, even after ``net.train()``: their batch statistics are not
    updated and their dropout is off. A dropout layer belongs to the layer that it feeds.
    batch_statistics: False also freezes the statistics of trainable modules, which helps with few
    images or small batches. Raises ModelError for unknown modules.
    """
    chosen = _chosen(net, trainable)
    unfreeze(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(_is_inside(name, chosen))
        if not parameter.requires_grad:
            parameter.grad = None
    frozen = _frozen_modules(net)
    if not batch_statistics:
        frozen.update(module for module in net.modules() if hasattr(module, "running_mean"))
    for module in frozen:
        module.eval()
        module.register_forward_pre_hook(_keep_evaluating)
    counts = [(p.requires_grad, p.numel()) for p in net.parameters()]
    trained = sum(count for is_trainable, count in counts if is_trainable)
    named = tuple(name for name in chosen if name)
    return Freezing(
        trainable=named,
        trainable_parameters=trained,
        frozen_parameters=sum(count for _, count in counts) - trained,
    )


def unfreeze(net: nn.Module) -> None:
    """Undo ``freeze``, in place: parameters get gradients, modules follow ``net.train()`` again."""
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    for module in net.modules():
        hooks = forward_pre_hooks(module)
        for key, hook in list(hooks.items()):
            if hook is _keep_evaluating:
                del hooks[key]
                module.training = net.training


def stages(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The stages of a network in order, each a tuple of names of modules with parameters.

    Containers are replaced by their blocks; a normalisation belongs to the stage before it.
    """
    found: list[tuple[str, ...]] = []
    for name, module in _parts(net, ""):
        if found and _is_norm(module):
            found[-1] = (*found[-1], name)
        else:
            found.append((name,))
    return tuple(found)


def head_of(net: nn.Module) -> tuple[str, ...]:
    """The names of the modules that return the logits: as marked or told by timm, else the last."""
    marked = tuple(name for name, module in net.named_modules() if hasattr(module, "is_head"))
    if marked:
        return marked
    names = {module: name for name, module in net.named_modules()}
    # The convention of timm; some of its networks have two heads and return a tuple.
    get_classifier = getattr(net, "get_classifier", None)
    if callable(get_classifier):
        found = get_classifier()
        heads = found if isinstance(found, tuple) else (found,)
        known = tuple(names[head] for head in heads if _has_parameters(head))
        if known:
            return known
    leaves = [
        name for name, leaf in net.named_modules() if _is_leaf(leaf) and _has_parameters(leaf)
    ]
    if not leaves:
        raise ModelError("the network has no parameters, so nothing can be frozen or trained")
    return (leaves[-1],)


# A hook rather than an overridden train(): it works whoever changes the mode, is copied with the
# network, and changes neither classes nor the keys of the weights.
def _keep_evaluating(module: nn.Module, inputs: object) -> None:
    module.training = False


def forward_pre_hooks(module: nn.Module) -> MutableMapping[int, Any]:
    """The pre-hooks of a module by their keys.

    torch offers handles to whoever registered a hook, but no public list of hooks, which is needed
    for copies of a network. Without this attribute, no hook is found.
    """
    hooks: MutableMapping[int, Any] = getattr(module, "_forward_pre_hooks", {})
    return hooks


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
        raise ModelError(f"last-{count}: the network has {len(body)} stages before its head")
    # The rest of the head's own stage, such as dense layers before the last one, is trained too.
    wanted = [*body[-count:], *(stage for stage in parts if stage not in body)]
    return tuple(name for stage in wanted for name in stage)


def _checked(net: nn.Module, name: str) -> str:
    known = dict(net.named_modules())
    if name and name in known and _has_parameters(known[name]):
        return name
    what = "has no parameters" if name in known else "is no module of the network"
    options = [each for stage in stages(net) for each in stage]
    hint = did_you_mean(name, options)
    hint = hint if hint.startswith("Did") else f"Its stages are {', '.join(options)}."
    raise ModelError(
        f'cannot train \'{name}\': it {what}. Expected "all", "head", "last-N" or names of '
        f"modules. {hint}"
    )


def _frozen_modules(net: nn.Module) -> set[nn.Module]:
    """The modules that compute as in evaluation mode, given which parameters are trainable.

    A module whose parameters are all frozen is frozen with everything inside it; one without
    parameters, such as dropout, is frozen if the layer that it feeds is.
    """
    frozen: set[nn.Module] = set()
    feeds_trainable = False
    # Backwards, so that it is known what a module feeds when it is reached.
    for module in reversed(list(net.modules())):
        own = list(module.parameters(recurse=False))
        feeds_trainable = any(p.requires_grad for p in own) if own else feeds_trainable
        if _has_parameters(module):
            if not any(p.requires_grad for p in module.parameters()):
                frozen.update(module.modules())
        elif _is_leaf(module) and not feeds_trainable:
            frozen.add(module)
    return frozen


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
