"""What beginners type: each mistake is answered in a sentence that says what to do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

import glasshouse as gh
from tests.conftest import make_images

# As users write them: type checkers would find many of these mistakes first.
api: Any = gh
DENSE = {"type": "dense", "units": "classes"}


class TwoOutputs(nn.Module):
    """Returns more than logits."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Two tensors."""
        return images, images


class Maps(nn.Module):
    """Returns feature maps."""

    def forward(self, images: Tensor) -> Tensor:
        """The images."""
        return images


@pytest.fixture(scope="module")
def splits() -> gh.Splits:
    return gh.Splits(
        make_images(24, prefix="train"), make_images(8, prefix="val"), make_images(8, prefix="test")
    )


@pytest.fixture(scope="module")
def classifier(splits: gh.Splits) -> gh.Classifier:
    return gh.untrained_classifier([{"type": "flatten"}, DENSE], splits, seed=0)


Mistake = Callable[[gh.Splits, gh.Classifier], Any]
SETTINGS: list[tuple[Mistake, str]] = [
    (lambda s, c: api.TrainSettings(epoch=3), "unknown key 'epoch'. Did you mean 'epochs'?"),
    (lambda s, c: api.TrainSettings(learning_rate=1), "Did you mean 'lr'?"),
    (lambda s, c: api.TrainSettings(rotation_range=9), "It is a key of AugmentSettings"),
    (lambda s, c: api.TrainSettings(3), "expected name=value, received 3"),
    (
        lambda s, c: api.TrainSettings(epochs=0),
        "epochs: expected at least 1. Received: 0",
    ),
    (lambda s, c: api.TrainSettings(optimizer="Adam"), "Did you mean 'adam'?"),
    (lambda s, c: api.TrainSettings(schedule={"type": "cosin"}), "Did you mean 'cosine'?"),
    (lambda s, c: setattr(api.TrainSettings(), "epochs", 3), "make a copy with model_copy"),
    (lambda s, c: gh.TrainSettings().model_copy(update={"epoch": 3}), "Did you mean 'epochs'?"),
    (lambda s, c: api.AugmentSettings(flip=True), "Did you mean 'horizontal_flip'?"),
    (lambda s, c: api.DataSettings(size=32), "Did you mean 'image_size'?"),
    (
        lambda s, c: api.ModelSettings(),
        "expected exactly one of preset, layers, pretrained and code",
    ),
    (lambda s, c: api.Conv(filter=8), "Did you mean 'filters'?"),
    (lambda s, c: api.load_recipe("small-cn"), "Did you mean 'small-cnn'?"),
    (lambda s, c: api.load_recipe("small-cnn", "train.epochs=3"), r"a list, such as \['train"),
    (lambda s, c: api.load_splits("digit"), "digit"),
    (lambda s, c: api.load_splits("digits", 32), r"DataSettings\(image_size=32\)"),
    (lambda s, c: api.load_splits(["a.jpg"]), "expected a source.* received a list"),
    (lambda s, c: api.show(()), "expected the folder of a finished run.* received a tuple"),
]
NETWORKS: list[tuple[Any, str]] = [
    ([{"type": "convv"}], "layers.0: unknown value 'convv'. Did you mean 'conv'?"),
    ([{"type": "flatten"}, {"type": "dense", "units": 3}], "shape 3, but there are 4 classes"),
    ([DENSE], "put a flatten or a global pool before it"),
    ([], "a list of layers of one kind.* received none"),
    ([{"type": "flatten"}, nn.Linear(768, 4)], "a list of layers of one kind.* Linear, dict"),
    ([nn.Flatten(), nn.Linear(700, 4)], r"layer 1 \(Linear\).* 768 per image.* expected 768"),
    ([nn.Conv2d(1, 4, 3)], r"received the shape \(2, 4, 14, 14\): end the network with a global"),
    ([nn.Conv2d(9, 4, 3)], r"layer 0 \(Conv2d\).* 3x16x16.* in_channels is 9, expected 3"),
    ([nn.Conv2d(3, 4, 3), nn.Linear(768, 4)], r"layer 1 \(Linear\).* Put nn.Flatten\(\) before"),
    ([nn.Conv2d(3, 4, 20)], r"layer 0 \(Conv2d\).* larger images"),
    ([nn.Flatten(), nn.Linear(768, 3)], "returns 3 values per image, but there are 4 classes"),
    (nn.Linear, "Linear is a class: pass Linear()"),
    (TwoOutputs(), r"expected a network that returns logits \(n, classes\), received a tuple"),
    (Maps(), r"received the shape \(2, 3, 16, 16\)"),
    (gh.load_recipe("small-cnn"), "pass recipe.model, and recipe.train as the settings"),
    ("small-cnn", r"ModelSettings\(preset='small-cnn'\)"),
    (gh.ModelSettings(preset="smal-cnn"), "unknown preset 'smal-cnn'. Did you mean 'small-cnn'?"),
    (make_images(4), "The images come second"),
    (None, "Received None"),
]
SMALL = make_images(4, size=8)
USES: list[tuple[Mistake, str]] = [
    (lambda s, c: api.train_classifier([DENSE], s.train), "expected splits, from load_splits"),
    (lambda s, c: api.train_classifier(c, s, 3), r"TrainSettings\(epochs=3\).* received an int"),
    (lambda s, c: gh.train_classifier(c, replace(s, train=gh.take(s.train, []))), "no images"),
    (lambda s, c: gh.train_classifier(c, replace(s, validation=gh.take(s.test, []))), "no images"),
    (
        lambda s, c: gh.train_classifier([DENSE], replace(s, validation=make_images(4, size=8))),
        "training split are 16x16, but those of the validation split 8x8",
    ),
    (
        lambda s, c: gh.train_classifier(c, gh.Splits(SMALL, SMALL, SMALL)),
        r"images are 8x8, but the classifier takes 16x16: .* DataSettings\(image_size=16\)",
    ),
    (lambda s, c: gh.train_classifier(c, s, gh.TrainSettings(device="gpu")), "Expected auto, cpu"),
    (lambda s, c: api.predict((c, ()), s.test), "classifier, epochs = train_classifier"),
    (lambda s, c: api.predict(s.test, c), "expected a Classifier first, received an ImageSet"),
    (lambda s, c: api.evaluate(s.test), "expected predictions, such as predict"),
    (lambda s, c: api.evaluate(c), "predictions, such as predict.* received a Classifier"),
    (lambda s, c: gh.evaluate(c.predict(s.test.pixels)), "image 0 has no label"),
    (lambda s, c: c.predict(make_images(4, size=8)), "are 8x8, but the classifier takes 16x16"),
    (lambda s, c: api.explain(c, s.test, methods="gradcam"), "Did you mean 'grad-cam'?"),
    (
        lambda s, c: gh.explain(c, s.test, methods="saliency", target_class="north"),
        "no class 'north'",
    ),
    (lambda s, c: api.plot_confusion(c.predict(s.test)), "expected an Evaluation"),
    (lambda s, c: api.plot_curves(c), "expected the epochs"),
    (lambda s, c: api.plot_curves((c, ())), "the epochs alone"),
    (lambda s, c: api.plot_classes(c.predict(s.test)), "expected an Evaluation"),
    (lambda s, c: api.plot_reliability(c), "expected an Evaluation"),
    (lambda s, c: api.plot_augmentation(s.train, gh.load_recipe("fast")), "recipe.augment"),
    (lambda s, c: api.probabilities(c), "expected predictions"),
    (lambda s, c: api.check(s.train), "expected splits"),
    (lambda s, c: gh.take(s.test, [99]), "positions from 0 to 7, received 99"),
    (lambda s, c: api.build(gh.load_recipe("fast"), 4, (3, 16, 16), seed=0), "recipe.model"),
    (lambda s, c: api.summarize(c, (3, 16, 16)), "such as classifier.net"),
    (lambda s, c: api.find_lr(c, s), "expected a network"),
    (lambda s, c: api.train_classifier(c, s, rate=0.1), r"TrainSettings\(lr=0.1\)"),
    (
        lambda s, c: replace(c, class_names=("a", "b")).predict(s.test.pixels),
        "but there are 2 classes",
    ),
    (lambda s, c: api.plot_images(s), "expected an ImageSet.*splits.test"),
    (lambda s, c: gh.plot_mistakes(s.train, c.predict(s.test)), "the same images"),
]
PIXELS, LABELS = np.zeros((2, 3, 8, 8), np.uint8), np.zeros(2, np.int64)
IDS = np.array(["a", "b"])
SETS: list[tuple[dict[str, Any], str]] = [
    ({"pixels": np.zeros((2, 8, 8, 3), np.uint8)}, r"transpose\(0, 3, 1, 2\)"),
    ({"pixels": np.zeros((2, 3, 8, 8), np.float32)}, "pixels: expected uint8"),
    ({"pixels": np.zeros((2, 8, 8), np.uint8)}, r"received uint8 \(2, 8, 8\)"),
    ({"targets": np.array([0, 2])}, "targets: expected 0 to 1, the positions of 2 class names"),
    ({"targets": np.array([0])}, "targets: expected 2, one per image; received 1"),
    ({"targets": np.array([0.0, 1.0])}, "targets: expected integers"),
    ({"targets": [0, 1]}, "targets: expected a numpy array, received a list"),
    ({"ids": np.array(["a"])}, "ids: expected 2, one per image; received 1"),
]


def check(error: type[Exception], words: str, act: Callable[[], Any]) -> None:
    with pytest.raises(error, match=words) as caught:
        act()
    assert "pydantic" not in str(caught.value) and "mat1" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "words"), [*SETTINGS, *USES], ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_mistake_is_answered_in_a_sentence(
    act: Mistake, words: str, splits: gh.Splits, classifier: gh.Classifier
) -> None:
    check(gh.GlasshouseError, words, lambda: act(splits, classifier))


@pytest.mark.parametrize(
    ("net", "words"), NETWORKS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_network_that_does_not_fit_is_named_with_its_layer(
    net: Any, words: str, splits: gh.Splits
) -> None:
    check(gh.UsageError, words, lambda: gh.train_classifier(net, splits))


@pytest.mark.parametrize(
    ("wrong", "words"), SETS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_image_set_is_checked_when_it_is_made(wrong: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"pixels": PIXELS, "targets": LABELS, "ids": IDS}
    assert len(gh.ImageSet(**right, class_names=("x", "y"))) == 2
    check(gh.DataError, words, lambda: gh.ImageSet(**(right | wrong), class_names=("x", "y")))


def test_layers_in_every_form_train_the_same_network(splits: gh.Splits) -> None:
    settings = gh.TrainSettings(epochs=1, device="cpu")
    forms: list[Any] = [
        [{"type": "flatten"}, DENSE],
        [gh.Flatten(), gh.Dense(units="classes")],
        gh.ModelSettings(layers=(gh.Flatten(), gh.Dense(units="classes"))),
    ]
    found = [gh.train_classifier(form, splits, settings)[0] for form in forms]
    logits = [each.predict(splits.test).logits.tobytes() for each in found]
    assert len(set(logits)) == 1
    own = gh.train_classifier([nn.Flatten(), nn.Linear(768, 4)], splits, settings)[0]
    assert own.predict(splits.test).logits.shape == (8, 4)


def test_a_lazy_layer_gets_its_size_and_its_weights_from_the_seed(splits: gh.Splits) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(4))
    settings = gh.TrainSettings(epochs=1, device="cpu")
    first, second = (gh.train_classifier(net, splits, settings)[0] for _ in range(2))
    assert isinstance(net[-1], nn.LazyLinear) and first.architecture is not None
    logits = [each.predict(splits.test).logits.tobytes() for each in (first, second)]
    assert logits[0] == logits[1]


def test_files_may_come_from_a_glob(classifier: gh.Classifier, tmp_path: Path) -> None:
    Image.new("RGB", (20, 30)).save(tmp_path / "a.png")
    Image.new("RGB", (20, 30)).save(tmp_path / "b.png")
    assert len(classifier.predict(tmp_path.glob("*.png")).ids) == 2
    assert len(gh.take(make_images(8), slice(2, 5))) == 3


def test_a_classifier_is_trained_further_with_its_own_preprocessing(
    splits: gh.Splits, classifier: gh.Classifier, tmp_path: Path
) -> None:
    own = replace(classifier, temperature=2.0)
    own = replace(own, preprocessing=replace(own.preprocessing, mean=(0.5, 0.5, 0.5)))
    before = own.predict(splits.test).logits.tobytes()
    further, epochs = gh.train_classifier(own, splits, gh.TrainSettings(epochs=2, device="cpu"))
    assert len(epochs) == 2 and further.preprocessing == own.preprocessing
    assert further.temperature == 1.0 and own.predict(splits.test).logits.tobytes() == before
    gh.save_classifier(further, tmp_path)
    again = gh.load_classifier(tmp_path).predict(splits.test)
    assert again.logits.tobytes() == further.predict(splits.test).logits.tobytes()
    names = ("a", "b", "c", "d")
    parts = (splits.train, splits.validation, splits.test)
    train, validation, test = (replace(each, class_names=names) for each in parts)
    other = gh.Splits(train, validation, test)
    with pytest.raises(gh.DataError, match="the images have the classes a, b, c, d"):
        gh.train_classifier(further, other)
