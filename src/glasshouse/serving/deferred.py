"""Functions whose modules are imported at their first call.

The workbench starts without torch, which takes seconds to import. Whatever needs torch lives in
modules that the pages name here instead of importing them.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def deferred(module: str, function: str) -> Callable[..., Any]:
    """Stand in for ``function`` of ``module``, which is imported at the first call.

    That call may take seconds: make it in a thread, never in the event loop.
    """

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), function)(*arguments, **options)

    return call
