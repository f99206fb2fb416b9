"""Guided Grad-CAM: where the class lies, times what the guided gradient sees there."""

from torch import Tensor

from glasshouse.explanation.maps.cam import enlarge


def guided_grad_cam(guided_gradient: Tensor, cam: Tensor) -> Tensor:
    """The guided gradient ``(n, 3, h, w)`` times the enlarged positive map (Selvaraju 2017).

    cam: a raw Grad-CAM ``(n, h', w')`` with vanilla gradients. This is not Grad-CAM computed from
    guided gradients, which is another image under a similar name.
    """
    height, width = guided_gradient.shape[2:]
    return guided_gradient * enlarge(cam.clamp(min=0), height, width)[:, None]
