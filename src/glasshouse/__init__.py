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

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
__version__ = "0.1.0"
