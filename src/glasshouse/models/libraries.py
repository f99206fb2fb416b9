"""torchvision and timm, imported when first needed: together they take seconds."""

from functools import cache
from types import ModuleType

import torch


@cache
def timm_library() -> ModuleType:
    """The module timm."""
    torchvision_library()  # timm imports it, and must find it importable
    import timm

    module: ModuleType = timm
    return module


@cache
def torchvision_library() -> ModuleType:
    """The module torchvision, also next to another build of torch than it was made for."""
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _declare_operators()
        import torchvision
    module: ModuleType = torchvision
    return module


@cache
def _declare_operators() -> torch.library.Library:
    """Declare the box operators for which torchvision registers implementations at import.

    Its compiled extension loads only with the build of torch (CUDA or not) that it was compiled
    for. Without it the operators do not exist, and the import fails although no classifier uses
    them. Once declared, they can be registered; calling them still raises torch's error. The
    library object must stay alive, hence the cache.
    """
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library
