import pytest
import torch
from torch import Tensor

from glasshouse.models.views import ALONE, MeanOfViews, Views

EVERY = [ALONE, Views(mirror=True), Views(shifts=True), Views(mirror=True, shifts=True)]


def some_values(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def squares(images: Tensor) -> Tensor:
    # Pixels count differently, so that each view has another answer.
    weights = torch.arange(images[0].numel(), dtype=images.dtype).view(images.shape[1:])
    return (images**2 * weights).sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("views", EVERY)
def test_a_stack_of_views_is_averaged_to_the_answer(views: Views) -> None:
    images = some_values(2, 3, 6, 5)
    stacked = views.stacked(images)
    assert len(stacked) == 2 * views.count and torch.equal(stacked[:2], images)
    answers = views.mean(images, squares(images), squares)
    torch.testing.assert_close(views.averaged(squares(stacked)), answers)
    # All views differ from each other.
    assert len({tuple(each.flatten().tolist()) for each in stacked[::2]}) == views.count


@pytest.mark.parametrize("views", EVERY)
def test_the_gradient_is_that_of_the_answer(views: Views) -> None:
    images = some_values(2, 3, 6, 5).requires_grad_()
    answers = views.mean(images, squares(images), squares)
    (expected,) = torch.autograd.grad(answers.sum(), images)
    stacked = views.stacked(images.detach()).requires_grad_()
    (each,) = torch.autograd.grad(squares(stacked).sum(), stacked)
    with torch.no_grad():
        torch.testing.assert_close(views.gradient(each), expected)


@pytest.mark.parametrize("views", EVERY)
def test_maps_of_views_are_moved_back_to_where_the_image_has_them(views: Views) -> None:
    images = some_values(2, 3, 7, 6)
    back = views.mean_map(views.stacked(images), (7, 6))
    torch.testing.assert_close(back[..., 1:-1, 1:-1], images[..., 1:-1, 1:-1])
    # Without channels, as the maps of a method are.
    flat = views.mean_map(views.stacked(images)[:, 0], (7, 6))
    assert torch.equal(flat, back[:, 0])


def test_cells_of_several_pixels_are_mirrored_back_and_not_moved() -> None:
    cells = some_values(6, 2, 2)
    found = Views(mirror=True, shifts=True).mean_map(cells, (8, 8))
    own, mirrored = cells[[0, 2, 3]], cells[[1, 4, 5]]
    torch.testing.assert_close(found[0], (own.sum(0) + mirrored.sum(0).flip(-1)) / 6)


def test_a_network_of_all_views_answers_with_their_mean() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 6 * 5, 4)).double()
    images, views = some_values(2, 3, 6, 5), Views(mirror=True, shifts=True)
    found = MeanOfViews(net, views)(images)
    torch.testing.assert_close(found, net(views.stacked(images)).view(6, 2, 4).mean(0))
