"""Class activation maps: pure functions of a layer's output and the logit's gradient there.

``activation`` A and ``gradient`` G are ``(n, channels, h, w)``; maps are ``(n, h, w)``, signed
and in the layer's own resolution, in units of the logit.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CamFunction = Callable[[Tensor, Tensor], Tensor]


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by their mean gradient, before the final ReLU (Selvaraju et al. 2017)."""
    return _weighted(activation, gradient.mean((2, 3)))


def xgrad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by the gradient's mean under the activation (Fu et al. 2020).

    A channel whose activations sum to zero has weight zero.
    """
    mass = activation.sum((2, 3))
    share = (activation * gradient).sum((2, 3))
    return _weighted(activation, torch.where(mass == 0, 0.0, share / _nonzero(mass)))


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """The sum over channels of activation times gradient (Draelos and Carin 2020)."""
    return (activation * gradient).sum(1)


def grad_cam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Channels weighted by positive gradients, equation 19 of Chattopadhay et al. 2018."""
    square = gradient.square()
    below = 2 * square + activation.sum((2, 3), keepdim=True) * square * gradient
    alpha = torch.where(below == 0, 0.0, square / _nonzero(below))
    return _weighted(activation, (alpha * gradient.clamp(min=0)).sum((2, 3)))


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Activation times positive gradient, elementwise, summed over channels (Jiang 2021)."""
    return (activation * gradient.clamp(min=0)).sum(1)


def eigen_cam(activation: Tensor, gradient: Tensor | None = None) -> Tensor:
    """The first principal component of the activations; ignores the class (Muhammad 2020).

    Channels are centred over the places. The component comes from the smaller Gram matrix; its
    sign is chosen so that it grows with the mean activation.
    """
    height, width = activation.shape[2:]
    places = activation.flatten(2).transpose(1, 2)
    component = first_component(places - places.mean(1, keepdim=True))
    mean = places.mean(2)
    agreement = (component * (mean - mean.mean(1, keepdim=True))).sum(1, keepdim=True)
    signed = torch.where(agreement < 0, -component, component)
    return signed.view(-1, height, width)


def first_component(rows: Tensor) -> Tensor:
    """Each row's coordinate ``(n, rows)`` along the first right singular vector of its matrix.

    Both Gram matrices have the same leading vectors, so only the smaller one is factored.
    """
    count, width = rows.shape[1:]
    if count <= width:
        values, vectors = _factored(rows @ rows.transpose(1, 2))
        found: Tensor = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
        return found.to(rows.dtype).to(rows.device)
    vectors = _factored(rows.transpose(1, 2) @ rows)[1][..., -1:]
    along: Tensor = rows @ vectors.to(rows.dtype).to(rows.device)
    return along[..., 0]


CAMS: dict[str, CamFunction] = {
    "grad-cam": grad_cam,
    "hires-cam": hires_cam,
    "xgrad-cam": xgrad_cam,
    "grad-cam++": grad_cam_plus_plus,
    "layer-cam": layer_cam,
    "eigen-cam": eigen_cam,
}


def _factored(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, rising, and eigenvectors of symmetric matrices, in float64."""
    # Squares of a float32 matrix lose half the digits, so the small matrix is made in float64. MPS
    # has none.
    exact = (gram if gram.is_cuda else gram.cpu()).double()
    values, vectors = torch.linalg.eigh(exact)
    return values, vectors


def _weighted(activation: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("nchw,nc->nhw", activation, weights)


def _nonzero(values: Tensor) -> Tensor:
    return torch.where(values == 0, 1.0, values)
