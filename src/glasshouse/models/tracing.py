"""Which layer of a net feeds which, as far as its code can be followed."""

from collections import Counter

from torch import fx, nn


def layer_calls(net: nn.Module) -> list[fx.Node]:
    """Every operation of the net in order; none where its code cannot be followed."""
    try:
        return list(_Tracer().trace(net).nodes)
    # Tracing runs the net's own code on stand-ins, which may raise anything.
    except Exception:
        return []


def called_once(nodes: list[fx.Node]) -> set[str]:
    """The names of the layers that run exactly once."""
    counts = Counter(str(node.target) for node in nodes if node.op == "call_module")
    return {name for name, count in counts.items() if count == 1}


class _Tracer(fx.Tracer):
    """Sees convolutions and normalisations of any library as one step each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or next(m.children(), None) is None
