import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from glasshouse.data.images import ImageSet, Splits
from glasshouse.errors import DataError, ProcessError
from glasshouse.models.agreement import PrecisionAgreement
from glasshouse.models.backbone import backbone_of
from glasshouse.models.classifier import Classifier, Preprocessing, scale
from glasshouse.models.freezing import freeze
from glasshouse.settings import PretrainedSettings, TrainSettings
from glasshouse.storage import cache_folder
from glasshouse.training import features as module
from glasshouse.training.adapting import adapt
from glasshouse.training.features import extract, make_extractor
from tests.conftest import make_images

FLOAT = TrainSettings(precision="fp32", device="cpu")
SMALL = PretrainedSettings(name="resnet10t", weights="none", input_size=32)


@pytest.fixture
def classifier(tiny_splits: Splits) -> Classifier:
    return adapt(SMALL, tiny_splits.train).classifier


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_BLOCK_ROWS", 20)
    monkeypatch.setattr(module, "_BATCH", 8)
    yield


def test_features_are_the_output_of_the_backbone(
    classifier: Classifier, tiny_splits: Splits
) -> None:
    images = tiny_splits.validation
    found = extract(make_extractor(classifier, images, FLOAT), images, flips=True)
    inputs = scale(torch.from_numpy(images.pixels), classifier.preprocessing)
    with torch.inference_mode():
        body = backbone_of(classifier.net).eval()
        expected, mirrored = body(inputs).numpy(), body(inputs.flip(-1)).numpy()
    assert found.mirrored is not None
    np.testing.assert_allclose(found.values, expected, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.mirrored, mirrored, rtol=2e-3, atol=2e-3)
    assert np.array_equal(found.labels, images.labels)


def test_images_of_another_size_have_no_features(
    classifier: Classifier, tiny_images: ImageSet
) -> None:
    # The backbone pools globally and would take them, unlike what it was adapted to.
    extractor, words = make_extractor(classifier, tiny_images, FLOAT), "24x24, but the classifier"
    larger = make_images(8, size=24)
    with pytest.raises(DataError, match=words):
        make_extractor(classifier, larger, FLOAT)
    with pytest.raises(DataError, match=words):
        extract(extractor, larger)


@pytest.mark.usefixtures("small_blocks")
def test_cached_features_are_not_computed_again(
    classifier: Classifier, tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make_extractor(classifier, tiny_images, FLOAT)
    first = extract(extractor, tiny_images)
    assert len(list(cache_folder().rglob("*.npy"))) == 1
    monkeypatch.setattr(module, "_block", None)
    again = extract(make_extractor(classifier, tiny_images, FLOAT), tiny_images)
    assert np.array_equal(first.values, again.values)
    assert not again.values.flags.writeable


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_extraction_resumes(
    classifier: Classifier, tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make_extractor(classifier, tiny_images, FLOAT)
    compute, starts = module._block, []

    def stop_at_the_third(*arguments: object) -> object:
        starts.append(arguments[2])
        if len(starts) == 3:
            raise KeyboardInterrupt
        return compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_block", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        extract(extractor, tiny_images)
    assert starts == [(0, 20), (20, 40), (40, 60)]
    whole = extract(extractor, tiny_images)
    assert starts[3:] == [(40, 60), (60, 64)]
    monkeypatch.undo()
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(cache_folder() / "other"))
    np.testing.assert_allclose(whole.values, extract(extractor, tiny_images).values, atol=1e-3)


@pytest.mark.usefixtures("small_blocks")
def test_blocks_that_are_computed_elsewhere_are_those_of_here(
    classifier: Classifier, tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make_extractor(classifier, tiny_images, FLOAT)
    here = extract(extractor, tiny_images, flips=True)
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(cache_folder() / "other"))
    made: list[module.Origin] = []
    make = module._made

    def counted(origin: module.Origin) -> module.Extractor:
        made.append(origin)
        return make(origin)

    monkeypatch.setattr(module, "_made", counted)
    monkeypatch.setattr(module, "_known", {})
    said: list[tuple[str, int, int]] = []
    there = extract(
        extractor,
        tiny_images,
        flips=True,
        progress=lambda *report: said.append(report),
        # As pieces arrive on another machine.
        piecework=lambda work, pieces: (
            work(*pickle.loads(pickle.dumps(piece))) for piece in pieces
        ),
    )
    assert here.mirrored is not None and there.mirrored is not None
    assert here.values.tobytes() == there.values.tobytes()
    assert here.mirrored.tobytes() == there.mirrored.tobytes()
    # Once in a process, not once for each block.
    assert len(made) == 1
    assert [done for name, done, _ in said if name == "features"] == [0, 20, 40, 60, 64]
    with pytest.raises(ProcessError, match="another extractor"):
        module.block_elsewhere(extractor.origin, "other", tiny_images.pixels[:2], False)


def test_the_key_knows_weights_size_and_preprocessing_but_not_the_head(
    classifier: Classifier, tiny_images: ImageSet
) -> None:
    key = make_extractor(classifier, tiny_images, FLOAT).key
    other_head = adapt(SMALL, tiny_images, seed=3).classifier
    other_head.net.load_state_dict(
        {
            name: value if "fc" in name else classifier.net.state_dict()[name]
            for name, value in other_head.net.state_dict().items()
        }
    )
    assert make_extractor(other_head, tiny_images, FLOAT).key == key
    level = replace(classifier.preprocessing, mean=(0.1, 0.1, 0.1))
    others = (
        adapt(SMALL, tiny_images, seed=3).classifier,
        adapt(SMALL.model_copy(update={"input_size": 48}), tiny_images).classifier,
        replace(classifier, preprocessing=level),
    )
    assert all(make_extractor(other, tiny_images, FLOAT).key != key for other in others)


def test_other_images_have_other_features_in_the_cache(classifier: Classifier) -> None:
    images = make_images(8)
    extractor = make_extractor(classifier, images, FLOAT)
    first = extract(extractor, images).values
    changed = replace(images, pixels=255 - images.pixels)
    assert not np.allclose(extract(extractor, changed).values, first)


def test_the_key_of_the_images_covers_every_block_of_them() -> None:
    # 10 MB, which are read in blocks of 8.
    images = replace(make_images(200, size=128), pixels=np.zeros((200, 3, 128, 128), np.uint8))
    key = module._images_key(images)
    for place in (0, 199):
        changed = images.pixels.copy()
        changed[place, 2, 127, 127] = 1
        assert module._images_key(replace(images, pixels=changed)) != key
    assert module._images_key(replace(images, pixels=images.pixels.copy())) == key


def test_features_of_another_precision_are_not_taken_from_the_cache(
    classifier: Classifier, tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An untrained network is rarely close enough, which is beside the point here.
    monkeypatch.setattr(PrecisionAgreement, "is_enough", property(lambda self: True))
    low = TrainSettings(precision="bf16", device="cpu")
    whole, halved = (make_extractor(classifier, tiny_images, each) for each in (FLOAT, low))
    assert (whole.body.precision, halved.body.precision) == (torch.float32, torch.bfloat16)
    assert whole.key != halved.key


def test_numbers_too_large_for_half_precision_are_kept_whole(
    classifier: Classifier, tiny_images: ImageSet
) -> None:
    with torch.no_grad():
        for name, parameter in classifier.net.named_parameters():
            if "layer4" in name and name.endswith("bias"):
                parameter.fill_(70_000.0)
    found = extract(make_extractor(classifier, tiny_images, FLOAT), tiny_images)
    assert found.values.dtype == np.float32 and np.isfinite(found.values).all()


def test_progress_ends_at_the_number_of_images(
    classifier: Classifier, tiny_images: ImageSet
) -> None:
    told: list[tuple[str, int, int]] = []
    extract(
        make_extractor(classifier, tiny_images, FLOAT),
        tiny_images,
        progress=lambda *news: told.append(news),
    )
    assert told == [("features", done, 64) for done in (0, 32, 64)]


def test_extracting_leaves_the_classifier_unchanged(
    classifier: Classifier, tiny_images: ImageSet, tmp_path: Path
) -> None:
    freeze(classifier.net, "head")
    classifier.net.train()
    before = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    modes = [m.training for m in classifier.net.modules()]
    extract(make_extractor(classifier, tiny_images, FLOAT), tiny_images)
    after = classifier.net.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [m.training for m in classifier.net.modules()] == modes


class Counting:
    """A body that returns the same number for every image, and notes how many it was given."""

    precision, folded, refused = torch.bfloat16, 3, None
    agreement = SimpleNamespace(describe=lambda: "the same answers")

    def __init__(self, value: float = 1.0) -> None:
        self.value, self.sizes = value, list[int]()

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(inputs))
        # The first column tells a mirrored image from its original.
        return torch.stack([inputs[:, 0, 0, 0], torch.full((len(inputs),), self.value)], dim=1)


def extractor_of(body: Any) -> module.Extractor:
    origin: Any = None
    size = Preprocessing(16, 16)
    return module.Extractor(body, size, torch.device("cpu"), "k" * 64, "resnet0", origin)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(59_900.0, "float16"), (60_000.0, "float32"), (-59_900.0, "float16"), (-60_000.0, "float32")],
)
def test_numbers_are_halved_below_sixty_thousand(value: float, kind: str) -> None:
    extractor = extractor_of(Counting(value))
    rows = module._block(extractor, make_images(3).pixels, (0, 3), False)
    assert rows.dtype == kind and rows[:, 1].astype(np.float64) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_block_is_computed_in_batches_of_thirty_two(mirrored: bool) -> None:
    body, images = Counting(), make_images(90)
    told: list[int] = []
    rows = module._block(extractor_of(body), images.pixels, (7, 78), mirrored, told.append)
    assert body.sizes == [32, 32, 7]
    corner = images.pixels[7:78, 0, 0, -1 if mirrored else 0] / 255
    assert rows[:, 0] == pytest.approx(corner, abs=1e-3)
    assert told == [39, 71, 78]


def test_both_views_are_told_by_their_names_and_kept_apart() -> None:
    images, told = make_images(40), list[tuple[str, int, int]]()
    found = extract(
        extractor_of(Counting()), images, flips=True, progress=lambda *news: told.append(news),
        name="train",
    )  # fmt: skip
    assert told == [
        (name, done, 40) for name in ("train", "train, mirrored") for done in (0, 32, 40)
    ]
    assert found.mirrored is not None and len(found) == 40
    assert found.mirrored[:, 0] == pytest.approx(images.pixels[:, 0, 0, -1] / 255, abs=1e-3)
    assert sorted(path.name[32:] for path in cache_folder().rglob("*.npy")) == [
        "-mirrored.npy", ".npy"
    ]  # fmt: skip
    record = json.loads(next(cache_folder().rglob("*.json")).read_text())
    assert record["source"] == "resnet0, 40 images"


@pytest.mark.parametrize(("count", "starts"), [(512, [0]), (513, [0, 512]), (1, [0])])
def test_blocks_have_512_rows(
    monkeypatch: pytest.MonkeyPatch, count: int, starts: list[int]
) -> None:
    seen: list[tuple[int, int]] = []

    def rows(whole: Path, bounds: list[tuple[int, int]], *_: Any, **__: Any) -> Any:
        seen.extend(bounds)
        return np.zeros((count, 2))

    monkeypatch.setattr(module, "cached_rows", rows)
    extract(extractor_of(Counting()), make_images(count))
    assert seen == [(start, min(start + 512, count)) for start in starts]


def test_how_features_are_computed_is_told() -> None:
    extractor = extractor_of(Counting())
    plain = (
        "Features are computed in bfloat16 with 3 normalisations folded; compared with the "
        "original network they have the same answers."
    )
    assert extractor.describe() == plain
    extractor.body.refused = SimpleNamespace(describe=lambda: "other answers")  # type: ignore
    assert extractor.describe() == f"{plain} A lower precision was rejected, with other answers."


@pytest.mark.parametrize(
    ("count", "classes", "images", "of"),
    # Up to 64 images, of up to 32 classes that are spread evenly.
    [(40, 4, 40, range(4)), (200, 4, 64, range(4)), (64, 32, 64, range(32)),
     (200, 100, 64, [round(n * 99 / 31) for n in range(32)]),
     (33, 33, 32, [*range(16), *range(17, 33)])],
)  # fmt: skip
def test_examples_are_a_few_images_of_each_class_or_of_some_classes(
    count: int, classes: int, images: int, of: Any
) -> None:
    given = replace(
        make_images(count, size=2),
        targets=np.arange(count) % classes,
        class_names=tuple(map(str, range(classes))),
    )
    chosen = module._examples(given)
    assert len(chosen) == images and len(set(chosen.tolist())) == images
    assert sorted(set((chosen % classes).tolist())) == list(of)


def test_the_key_names_version_and_structure_of_the_backbone(
    classifier: Classifier, tiny_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = make_extractor(classifier, tiny_images, FLOAT)
    assert (extractor.name, len(extractor.key)) == ("timm/resnet10t", 64)
    monkeypatch.setattr(module, "FEATURES_VERSION", "next")
    assert make_extractor(classifier, tiny_images, FLOAT).key != extractor.key
    monkeypatch.undo()
    known = dict(classifier.architecture or {})
    for change, is_same in (
        ({"head": "another"}, True), ({"class_count": 9}, True), ({"input_size": 48}, False)
    ):  # fmt: skip
        other = replace(classifier, architecture={**known, **change})
        assert (make_extractor(other, tiny_images, FLOAT).key == extractor.key) == is_same
    unknown = make_extractor(replace(classifier, architecture=None), tiny_images, FLOAT)
    assert unknown.name == "a network of your own"
