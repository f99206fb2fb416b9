"""Glasshouse: image classifiers that people can see through.

The public names stand in ``__init__.pyi``. Each is imported when it is first used, so that the
command line answers without waiting for torch.
"""

import os
import sys

# `python -m glasshouse` puts the current folder first, and modules in it, of a downloaded data set
# for example, would be imported in place of the standard library's. Python says "-m" here only
# until it has found the module to run, so no other program is affected. A checkout that is not
# installed is found in the current folder alone. Pathlib could itself be one of those modules.
_HOME = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != _HOME:
    del sys.path[0]

from lazy_loader import attach_stub  # noqa: E402

_get_public, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used; AttributeError names the nearest one."""
    try:
        return _get_public(name)
    except AttributeError:
        if name in __all__ or name.startswith("_"):
            raise
        import difflib  # Not before it is needed, and no module of ours: this file loads none.

        near = difflib.get_close_matches(name, __all__, n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        # Scripts would get Python's own suggestion, notebooks none; without a name there is only
        # this one.
        raise AttributeError(f"glasshouse has no attribute {name}{hint}", name="") from None


__version__ = "0.1.0"
