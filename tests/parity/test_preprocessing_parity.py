"""Every published weight's preprocessing, compared with its library's own transforms.

No weights are needed: the transforms of torchvision and timm are data of the libraries.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torchvision import models

from glasshouse.data.fitting import Fitting
from glasshouse.models import pretrained
from glasshouse.models.preprocessing import Preprocessing, preprocess, scale

# Odd and even sides, upright and lying, larger and smaller than what the networks take.
SIZES = ((375, 500), (457, 342), (97, 241))


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Noise at two scales, in which a shift by one pixel or another filter shows everywhere."""
    random = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = random.integers(-30, 30, (height, width, 3))
        found.append(Image.fromarray(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)))
    return found


def _torchvision_entries() -> Iterator[tuple[str, Any]]:
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            yield name, weights


def _timm_configs() -> dict[tuple[Any, ...], tuple[str, dict[str, Any]]]:
    """One published entry for each way of preprocessing, with timm's own configuration."""
    found: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
    for name in timm.list_pretrained():
        known = timm.models.get_pretrained_cfg(name)
        assert known is not None
        config: dict[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
            pretrained_cfg=known.to_dict()  # type: ignore[no-untyped-call]
        )
        if config["input_size"][0] == 3:
            found.setdefault(tuple(sorted(config.items())), (name, config))
    return found


def test_every_network_of_torchvision_gets_the_pixels_of_its_own_transforms(
    images: list[Image.Image],
) -> None:
    seen: set[tuple[Preprocessing, str]] = set()
    for name, weights in _torchvision_entries():
        own = weights.transforms()
        known = pretrained.preprocessing_of(f"torchvision/{name}", weights.url.rsplit("/", 1)[1])
        if (known, repr(own)) in seen:
            continue
        seen.add((known, repr(own)))
        for image in images:
            pixels = preprocess(np.asarray(image), known)
            ours = scale(torch.from_numpy(pixels[None]), known)[0]
            levels = (ours - own(image)).abs() * torch.tensor(known.std).view(3, 1, 1) * 255
            assert levels.max() < 1e-3, (weights, image.size)
    assert len(seen) > 15


@pytest.mark.parametrize(
    ("timm_name", "torchvision_name"),
    [("mobilenetv2_100", "squeezenet1_0"), ("regnetx_002", "swin_t")],
)
def test_a_photo_that_resizing_makes_huge_gets_the_pixels_of_both_libraries(
    timm_name: str, torchvision_name: str
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, 601, 3), dtype=np.uint8)
    for pixels in (noise, noise.transpose(1, 0, 2)):
        image = Image.fromarray(pixels)
        config: Any = resolve_data_config(  # type: ignore[no-untyped-call]
            pretrained_cfg=timm.models.get_pretrained_cfg(timm_name).to_dict()  # type: ignore
        )
        own: Any = create_transform(**config, is_training=False, normalize=False)
        known = pretrained.preprocessing_of(f"timm/{timm_name}")
        assert np.array_equal(preprocess(pixels, known), np.asarray(own(image))), image.size
        weights: Any = models.get_model_weights(torchvision_name)
        theirs = weights.DEFAULT.transforms()
        known = pretrained.preprocessing_of(f"torchvision/{torchvision_name}")
        ours = scale(torch.from_numpy(preprocess(pixels, known)[None]), known)[0]
        levels = (ours - theirs(image)).abs() * torch.tensor(known.std).view(3, 1, 1) * 255
        assert levels.max() < 1e-3, image.size


def test_every_network_of_timm_gets_the_pixels_of_its_own_transforms(
    images: list[Image.Image],
) -> None:
    geometries: set[Fitting] = set()
    for name, config in _timm_configs().values():
        known = pretrained.preprocessing_of(f"timm/{name}")
        assert (known.mean, known.std) == (tuple(config["mean"]), tuple(config["std"])), name
        if known.fitting in geometries:
            continue
        geometries.add(known.fitting)
        own = create_transform(**config, is_training=False, normalize=False)
        for image in images:
            pixels = preprocess(np.asarray(image), known)
            assert np.array_equal(pixels, np.asarray(own(image))), (name, image.size)
    assert len(geometries) > 100
