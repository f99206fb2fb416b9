"""Laws of maps: linear in the score, independent of other images, order and scale."""

import numpy as np
import torch
from hypothesis import given, settings, strategies as some

from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.cam import eigen_cam, grad_cam, hires_cam, xgrad_cam
from glasshouse.explanation.maps.enlargement import enlarge
from glasshouse.explanation.trust.localisation import energy_inside, pointing_game
from glasshouse.explanation.trust.sanity import rank_correlation
from tests.explanation.nets import classifier_of, functional_net, relative, some_images

sizes = some.tuples(
    some.integers(1, 3), some.integers(1, 5), some.integers(2, 6), some.integers(2, 6)
)
seeds = some.integers(0, 2**31)


def a_pair(size: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    activation = torch.rand(size, generator=generator, dtype=torch.float64)
    return activation, torch.randn(size, generator=generator, dtype=torch.float64)


@given(sizes, seeds)
@settings(max_examples=40, deadline=None)
def test_a_gradient_that_is_the_same_everywhere_makes_three_methods_one(
    size: tuple[int, ...], seed: int
) -> None:
    activation, gradient = a_pair(size, seed)
    same = gradient.mean((2, 3), keepdim=True).expand_as(gradient)
    for cam in (hires_cam, xgrad_cam):
        torch.testing.assert_close(cam(activation, same), grad_cam(activation, same))


@given(sizes, seeds)
@settings(max_examples=40, deadline=None)
def test_the_order_of_channels_does_not_matter(size: tuple[int, ...], seed: int) -> None:
    activation, gradient = a_pair(size, seed)
    order = torch.randperm(size[1], generator=torch.Generator().manual_seed(seed))
    for cam in (grad_cam, hires_cam, xgrad_cam):
        expected = cam(activation, gradient)
        torch.testing.assert_close(cam(activation[:, order], gradient[:, order]), expected)


@given(sizes, seeds)
@settings(max_examples=40, deadline=None)
def test_eigen_cam_has_the_most_variance_of_any_direction(size: tuple[int, ...], seed: int) -> None:
    activation, direction = a_pair(size, seed)
    rows = activation.flatten(2).transpose(1, 2)
    rows = rows - rows.mean(1, keepdim=True)
    other = direction.mean((2, 3))
    other = other / other.norm(dim=1, keepdim=True)
    along = torch.einsum("nrc,nc->nr", rows, other)
    found = eigen_cam(activation).flatten(1)
    assert (found.norm(dim=1) >= along.norm(dim=1) - 1e-9).all()
    # The sign: never against the mean of the channels.
    mean = activation.mean(1).flatten(1)
    assert ((found * (mean - mean.mean(1, keepdim=True))).sum(1) >= -1e-9).all()


@given(sizes, seeds, some.integers(1, 40), some.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_enlarging_stays_between_the_smallest_and_the_largest_value(
    size: tuple[int, ...], seed: int, height: int, width: int
) -> None:
    maps = a_pair(size, seed)[1][:, 0]
    large = enlarge(maps, height, width)
    assert large.shape == (size[0], height, width)
    assert (large.amax((1, 2)) <= maps.amax((1, 2)) + 1e-12).all()
    assert (large.amin((1, 2)) >= maps.amin((1, 2)) - 1e-12).all()


@given(some.permutations(range(4)), some.lists(some.integers(0, 4), min_size=4, max_size=4))
@settings(max_examples=15, deadline=None)
def test_an_image_s_map_does_not_depend_on_the_others(order: list[int], targets: list[int]) -> None:
    classifier = classifier_of(functional_net(), double=True)
    images = some_images(4)
    straight = explain(classifier, images, methods=["guided"], target_class=targets)[0].maps
    shuffled = explain(
        classifier,
        images[order],
        methods=["guided"],
        target_class=[targets[i] for i in order],
    )[0].maps
    assert relative(shuffled, straight[order]) < 1e-9


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_scores_lie_between_nothing_and_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    maps, masks = random.normal(size=(5, 6, 6)), random.random((5, 6, 6)) < 0.5
    energy = energy_inside(maps, masks)
    assert ((energy >= 0) & (energy <= 1)).all()
    np.testing.assert_allclose(energy + energy_inside(maps, ~masks), 1)
    assert (pointing_game(maps, masks) ^ pointing_game(maps, ~masks)).all()


@given(seeds)
@settings(max_examples=40, deadline=None)
def test_rank_correlation_is_symmetric_and_bounded(seed: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 6, (2, 5, 5)).astype(float)
    found = rank_correlation(first, second)
    assert -1 - 1e-12 <= found <= 1 + 1e-12
    assert abs(found - rank_correlation(second, first)) < 1e-12
