"""Guided Grad-CAM: the guided gradient, weighted by where Grad-CAM locates the class."""

from torch import Tensor

from glasshouse.explanation.maps.enlargement import enlarge


def guided_grad_cam(guided_gradient: Tensor, cam: Tensor) -> Tensor:
    """The guided gradient ``(n, 3, h, w)`` times the enlarged positive map (Selvaraju 2017).

    cam: a raw Grad-CAM ``(n, h', w')`` from vanilla gradients. Not to be confused with Grad-CAM
    computed from guided gradients, which is a different map.
    """
    height, width = guided_gradient.shape[2:]
    return guided_gradient * enlarge(cam.clamp(min=0), height, width)[:, None]
