"""Which layer of a network feeds which, as far as its code can be traced."""

from collections import Counter

from torch import fx, nn


def layer_calls(net: nn.Module) -> list[fx.Node]:
    """Every operation of the network in order; none if its code cannot be traced."""
    try:
        return list(_Tracer().trace(net).nodes)
    # Tracing runs the code of the network on proxies, which may raise any error.
    except Exception:
        return []


def called_once(nodes: list[fx.Node]) -> set[str]:
    """The names of the layers that run exactly once."""
    counts = Counter(str(node.target) for node in nodes if node.op == "call_module")
    return {name for name, count in counts.items() if count == 1}


class _Tracer(fx.Tracer):
    """Treats convolutions and normalisations, also those of other libraries, as one step each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or next(m.children(), None) is None
