"""What holds for duplicates and near-duplicates of any images."""

import numpy as np
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from glasshouse.data.duplicates import equal_groups
from glasshouse.data.image_hashes import (
    LEAST_LIKENESS,
    MOST_BITS,
    edge_likeness,
    image_hashes,
    near_pairs,
    thumbnails_of,
)
from glasshouse.data.images import ImageSet


def image_set(images: np.ndarray) -> ImageSet:
    count = len(images)
    ids = np.array([f"p/{n}" for n in range(count)])
    return ImageSet(images, np.zeros(count, np.int64), ids, ("a", "b"))


def digests_of(images: ImageSet) -> list[bytes]:
    return [row.tobytes() for row in images.survey.digests]


@st.composite
def image_sets(draw: st.DrawFn) -> ImageSet:
    """Up to a dozen images: noise, and copies of it with a few levels more."""
    seed = draw(st.integers(0, 2**32 - 1))
    height, width = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    random = np.random.default_rng(seed)
    images = random.integers(0, 200, (draw(st.integers(1, 6)), 3, height, width), dtype=np.uint8)
    chosen = draw(st.lists(st.integers(0, len(images) - 1), max_size=6))
    more = [images[k] + np.uint8(draw(st.integers(0, 50))) for k in chosen]
    return image_set(
        np.concatenate([images, np.array(more, np.uint8).reshape(-1, 3, height, width)])
    )


@settings(max_examples=40, deadline=None)
@given(image_sets())
def test_equal_groups_are_the_images_with_equal_pixels(images: ImageSet) -> None:
    groups = equal_groups(digests_of(images))
    grouped = {place: set(group) for group in groups for place in group}
    for place, image in enumerate(images.pixels):
        same = {k for k, other in enumerate(images.pixels) if np.array_equal(image, other)}
        assert grouped.get(place, {place}) == same


@settings(max_examples=40, deadline=None)
@given(image_sets())
def test_near_pairs_are_those_of_the_definition_among_different_images(images: ImageSet) -> None:
    digests, thumbnails = digests_of(images), thumbnails_of([images])
    hashes = image_hashes(thumbnails)
    seen: set[bytes] = set()
    firsts = [k for k, d in enumerate(digests) if not (d in seen or seen.add(d))]  # type: ignore[func-returns-value]
    expected = {
        (a, b)
        for a in firsts
        for b in firsts
        if a < b
        and int(np.bitwise_count(hashes[a] ^ hashes[b])) <= MOST_BITS
        and edge_likeness(thumbnails[[b]], thumbnails[a])[0] >= LEAST_LIKENESS
    }
    found = near_pairs(digests, thumbnails)
    assert set(found) == expected
    assert len(found) == len(expected)


@settings(max_examples=30, deadline=None)
@given(image_sets(), st.data())
def test_thumbnails_of_two_sets_are_those_of_each(images: ImageSet, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(images)))
    pieces = [image_set(images.pixels[:cut]), image_set(images.pixels[cut:])]
    np.testing.assert_allclose(thumbnails_of(pieces), thumbnails_of([images]), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (2, 16, 16), elements=st.floats(0, 255, width=32)),
    st.floats(0.25, 4),
)
def test_likeness_is_symmetric_within_bounds_and_blind_to_contrast(
    thumbnails: np.ndarray, contrast: float
) -> None:
    there = float(edge_likeness(thumbnails[:1], thumbnails[1])[0])
    back = float(edge_likeness(thumbnails[1:], thumbnails[0])[0])
    assert abs(there - back) < 1e-4
    assert -1.001 <= there <= 1.001
    changed = float(edge_likeness(thumbnails[:1] * np.float32(contrast), thumbnails[1])[0])
    if abs(there) > 1e-3 and np.ptp(thumbnails[0]) > 1 and np.ptp(thumbnails[1]) > 1:
        assert abs(changed - there) < 1e-3
