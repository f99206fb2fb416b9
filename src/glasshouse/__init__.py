"""Glasshouse: image classifiers that people can see through.

The public names stand in ``__init__.pyi``. Each is imported when it is first used, so that the
command line answers without waiting for torch.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
__version__ = "0.1.0"
