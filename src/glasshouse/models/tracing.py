"""Which layer of a network feeds which, as far as its code can be traced."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import fx, nn

# Tracing replaces methods of nn.Module itself; two at once could restore them in the wrong order.
_ONE_AT_A_TIME = threading.Lock()


def layer_calls(net: nn.Module) -> list[fx.Node]:
    """Every operation of the network in order; none if its code cannot be traced."""
    try:
        with _ONE_AT_A_TIME:
            return list(_Tracer().trace(net).nodes)
    # Tracing runs the code of the network on proxies, which may raise any error.
    except Exception:
        return []


def called_once(nodes: list[fx.Node]) -> set[str]:
    """The names of the layers that run exactly once."""
    counts = Counter(str(node.target) for node in nodes if node.op == "call_module")
    return {name for name, count in counts.items() if count == 1}


class _Tracer(fx.Tracer):
    """Treats convolutions and normalisations, also those of other libraries, as one step each.

    Networks that run in other threads meanwhile, which nn.Module's replaced methods would trace as
    well, run as always.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.Conv2d | nn.BatchNorm2d) or next(m.children(), None) is None
