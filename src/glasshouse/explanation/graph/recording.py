"""One forward pass that keeps its graph, and gradients along it; the network is left as it was.

The only file that attaches hooks to modules; `relu_rules` attaches those to nodes of the graph.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge, saved_tensors_hooks

from glasshouse.errors import GlasshouseError, ModelError
from glasshouse.explanation.graph.relu_rules import applied, require_open_graph
from glasshouse.explanation.methods import Rule
from glasshouse.models.predict import evaluating, require_finite
from glasshouse.models.trial import run_net


@dataclass(frozen=True)
class Call:
    """One output of one layer.

    number counts the calls of a layer that runs several times; is_leaf: the layer contains no
    others. value is detached; edge is where its gradient is found, None without a graph. version
    is that of the value when the layer returned it.
    """

    name: str
    number: int
    kind: str
    is_leaf: bool
    has_weights: bool
    shape: tuple[int, ...]
    value: Tensor | None
    edge: GradientEdge | None
    version: int

    @property
    def is_overwritten(self) -> bool:
        """Whether a later in-place operation changed the value."""
        return self.value is not None and self.value._version != self.version


@dataclass(frozen=True)
class Recording:
    """A forward pass with its graph: input ``(n, 3, h, w)``, logits ``(n, k)``, calls in order."""

    inputs: Tensor
    logits: Tensor
    calls: tuple[Call, ...]


def record(
    net: nn.Module,
    inputs: Tensor,
    *,
    keep: Collection[str] = (),
    see_all: bool = False,
    cut: str | None = None,
) -> Recording:
    """Run the network in evaluation mode and keep what explanations need.

    keep: layers whose outputs are copied. see_all: record every other layer as well, but without
    a copy, so that a later in-place operation may overwrite its output. cut: gradients are wanted
    only at this layer, so the graph before it is kept without values, which take most of its
    memory. Raises ModelError for a network whose operations are hidden, NotFinite for logits that
    are NaN or infinite.
    """
    require_traceable(net)
    if cut is not None:
        try:
            return _recorded(net, inputs, keep, see_all, cut, _SavedValues())
        except GlasshouseError:
            raise
        # A network that differentiates on its way needs these values, or forbids the hooks; any
        # other error comes again.
        except Exception:
            pass
    return _recorded(net, inputs, keep, see_all, cut, None)


def _recorded(
    net: nn.Module,
    inputs: Tensor,
    keep: Collection[str],
    see_all: bool,
    cut: str | None,
    values: "_SavedValues | None",
) -> Recording:
    calls: list[Call] = []
    with ExitStack() as stack:
        stack.enter_context(differentiating(inputs.device))
        stack.enter_context(evaluating(net))
        leaf = _own(inputs).requires_grad_()
        if values is not None:
            stack.enter_context(saved_tensors_hooks(values.pack, values.unpack))
        hooks = _hooked(net, calls, {*keep}, see_all=see_all, cut=cut, values=values)
        stack.enter_context(hooks)
        logits = run_net(net, leaf)
    _require_logits(logits)
    return Recording(leaf, logits, tuple(calls))


def gradients(
    recording: Recording, selector: Tensor, edges: Sequence[GradientEdge], rule: Rule = "vanilla"
) -> tuple[Tensor, ...]:
    """Gradients of ``sum(logits * selector)`` at the edges, under a rule; the graph is kept."""
    with differentiating(recording.inputs.device):
        if rule != "vanilla":
            behind = nodes_between(recording.logits, edges)
            require_open_graph(behind)
            context: Any = applied(rule, behind)
        else:
            context = ExitStack()
        with context:
            # As a scalar: gradients of a vector import SymPy, which takes a third of a second.
            score = (recording.logits * selector).sum()
            try:
                found = torch.autograd.grad(score, edges, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                if "use_reentrant" not in str(error):
                    raise
                raise ModelError(
                    "part of the network is checkpointed with use_reentrant=True, which hides its "
                    "operations: call torch.utils.checkpoint with use_reentrant=False"
                ) from error
    image = input_edge(recording).node
    pairs = zip(found, edges, strict=True)
    return tuple(full(_given(gradient, edge.node is image)) for gradient, edge in pairs)


def full(values: Tensor) -> Tensor:
    """Values in half precision as float32, for sums of many; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def visit_outputs(
    net: nn.Module,
    inputs: Tensor,
    names: Collection[str],
    visit: Callable[[str, int, Tensor], None],
) -> None:
    """Show each output of the named layers, with the number of the call; nothing is kept."""
    counts: Counter[str] = Counter()

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if _has_real_values(output):
                visit(name, counts[name], output)
                counts[name] += 1

        return hook

    handles: list[Any] = []
    with computing(inputs.device), evaluating(net):
        try:
            for name, module in net.named_modules():
                if name in names:
                    handles.append(module.register_forward_hook(hook_of(name)))
            run_net(net, inputs)
        finally:
            for handle in handles:
                handle.remove()


def input_edge(recording: Recording) -> GradientEdge:
    """The edge at which the gradient of the images is found."""
    with differentiating(recording.inputs.device):
        return get_gradient_edge(recording.inputs)


def nodes_below(start: Node | None) -> dict[Node, list[Node]]:
    """Every node that a result was computed from, itself included, with the nodes that use it."""
    users: dict[Node, list[Node]] = {} if start is None else {start: []}
    waiting = list(users)
    while waiting:
        node = waiting.pop()
        for child, _ in node.next_functions:
            if child is not None:
                if child not in users:
                    users[child] = []
                    waiting.append(child)
                users[child].append(node)
    return users


def nodes_between(logits: Tensor, edges: Iterable[GradientEdge]) -> tuple[Node, ...]:
    """The nodes on any path from the logits to the edges, without the edges' own nodes."""
    users = nodes_below(logits.grad_fn)
    return tuple(_above([edge.node for edge in edges], users))


def is_bypassed(recording: Recording, edge: GradientEdge) -> bool:
    """Whether some path from the image to the logits avoids the edge, as a skip connection does."""
    image = input_edge(recording).node
    waiting = [recording.logits.grad_fn]
    seen: set[Node | None] = {edge.node, *waiting}
    while waiting:
        node = waiting.pop()
        if node is image:
            return True
        children = [] if node is None else [child for child, _ in node.next_functions]
        waiting += [child for child in children if child not in seen]
        seen.update(children)
    return False


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """Gradients and autocast off and ordinary tensors created, whatever the caller's modes."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


@contextmanager
def differentiating(device: torch.device) -> Iterator[None]:
    """Gradients on and autocast off, whatever the caller's modes."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


def require_traceable(net: nn.Module) -> None:
    """Raise ModelError for a network whose operations are hidden."""
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelError(
                f"{_place(name)} is scripted, which hides its operations: expected a plain "
                "nn.Module; explain the network as it was before torch.jit"
            )
        # Where torch.compile keeps the module; not hasattr, which is slow for what is missing.
        if "_orig_mod" in module._modules:
            raise ModelError(
                f"{_place(name)} is compiled, which hides its operations: expected a plain "
                "nn.Module; explain the network as it was before torch.compile (its _orig_mod)"
            )


def _above(targets: list[Node], users: Mapping[Node, list[Node]]) -> list[Node]:
    found: dict[Node, None] = {}
    waiting = targets
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user not in found:
                found[user] = None
                waiting.append(user)
    return list(found)


def _own(inputs: Tensor) -> Tensor:
    # A copy: the network may change its input in place, and the caller's may be in another graph.
    return inputs.detach().clone()


class _SavedValues:
    """What operations save for their backward pass: nothing until `keep` is called."""

    def __init__(self) -> None:
        self._is_kept = False

    def keep(self) -> None:
        self._is_kept = True

    def pack(self, value: Tensor) -> tuple[Tensor, int] | None:
        # Detached, as the value may be the result of the operation that saves it.
        return (value.detach(), value._version) if self._is_kept else None

    def unpack(self, packed: tuple[Tensor, int] | None) -> Tensor:
        assert packed is not None, "a gradient was asked for before the layer of the cut"
        value, version = packed
        # Autograd checks this itself only where there are no hooks.
        if value._version != version:
            raise RuntimeError(
                "a value needed for the gradient was modified by an inplace operation"
            )
        return value


@contextmanager
def _hooked(
    net: nn.Module,
    calls: list[Call],
    keep: set[str],
    *,
    see_all: bool,
    cut: str | None,
    values: _SavedValues | None,
) -> Iterator[None]:
    handles: list[Any] = []
    try:
        for name, module in net.named_modules():
            if name and (see_all or name in keep or name == cut):
                hook = _recorder(
                    name, calls, copies=name in keep, is_cut=name == cut, values=values
                )
                handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _recorder(
    name: str, calls: list[Call], *, copies: bool, is_cut: bool, values: _SavedValues | None
) -> Callable[[nn.Module, Any, Any], Tensor | None]:
    def hook(module: nn.Module, _: Any, output: Any) -> Tensor | None:
        if not _has_real_values(output):
            return None
        if is_cut:
            if values is not None:
                values.keep()
            if not output.requires_grad:
                # Gradients at the layer need none of what comes before, which turned them off.
                torch.set_grad_enabled(True)
                leaf = output.detach().requires_grad_()
                calls.append(_call(name, module, leaf, calls, copies=False))
                # Later in-place operations are allowed on a copy, but not on a leaf of the graph.
                return leaf.clone()
        calls.append(_call(name, module, output, calls, copies=copies))
        return None

    return hook


def _call(
    name: str, module: nn.Module, output: Tensor, calls: Sequence[Call], *, copies: bool
) -> Call:
    value = output.detach().clone() if copies else output.detach()
    return Call(
        name=name,
        number=sum(call.name == name for call in calls),
        kind=type(module).__name__,
        is_leaf=next(module.children(), None) is None,
        has_weights=next(module.parameters(recurse=False), None) is not None,
        shape=tuple(output.shape),
        value=value,
        edge=get_gradient_edge(output) if output.requires_grad else None,
        version=value._version,
    )


def _has_real_values(output: Any) -> TypeGuard[Tensor]:
    """Whether a layer's output can be a map: complex and whole numbers have no signed gradient."""
    return isinstance(output, Tensor) and output.is_floating_point()


def _require_logits(logits: object) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits)
        raise ModelError(f"expected the network to return logits (n, classes), got {got}")
    if not logits.requires_grad:
        raise ModelError(
            "the network's logits have no graph: its forward detaches them or turns gradients "
            "off; explain a network that is differentiable from image to logits"
        )
    require_finite(logits)


def _given(gradient: Tensor | None, is_image: bool) -> Tensor:
    if gradient is None and is_image:
        raise ModelError(
            "the class score has no gradient at the image: part of the network detaches values, "
            "turns gradients off, or is quantised; explain a network that is differentiable from "
            "image to logits"
        )
    if gradient is None:
        raise ModelError(
            "the class score does not depend on the requested layer: choose a layer between the "
            "image and the logits"
        )
    return gradient


def _place(name: str) -> str:
    return f"the layer {name}" if name else "the network"
