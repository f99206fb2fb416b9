"""The models of a service by name: where they come from, and which of them are loaded."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glasshouse.data.device_copy import on_device
from glasshouse.models.classifier import MODEL_FILE, WEIGHTS_FILE, Classifier, scale
from glasshouse.models.forward import evaluated
from glasshouse.models.inference import inference_net
from glasshouse.models.predict import device_of, logits_of_few, predict_logits
from glasshouse.serving.service.problems import Problem
from glasshouse.serving.service.shared_weights import share_weights
from glasshouse.serving.service.stopwatch import Stopwatch

if TYPE_CHECKING:
    from glasshouse.workflow.use.photo_and_run import RunComparison

# Largest difference of a logit, as a share of the largest logit, that rounding explains.
_TOLERANCE = 1e-4
_EXAMPLES = 4

# What tells one state of a model's files from the next.
Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class ModelSource:
    """A model that can be loaded: its name, how, and its folder if it has one.

    A folder is watched: newer weights in it are loaded by themselves. shared: a folder for weights
    that several processes have in memory once. compare: how a classifier's photos are compared with
    the images of its run, where they can be.
    """

    name: str
    load: Callable[[], Classifier]
    folder: Path | None = None
    shared: Path | None = None
    compare: "Callable[[Classifier], RunComparison] | None" = None

    def stamp(self) -> Stamp | None:
        """The state of the folder's model; None where there is none, or none at the moment."""
        if self.folder is None:
            return None
        try:
            # Both: a copy may bring the weights after the file that names their hash.
            found = [(self.folder / name).stat() for name in (MODEL_FILE, WEIGHTS_FILE)]
        except OSError:
            return None
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)


@dataclass(frozen=True)
class ServedModel:
    """A loaded model.

    classifier: as it was loaded, which is what is explained. fast: a copy whose logits differ by
    rounding only. A request keeps the one that it began with, whatever is loaded meanwhile.
    comparison: with the images of its run, which has a network of its own. stopwatch: its speed.
    """

    name: str
    classifier: Classifier
    fast: Classifier
    stamp: Stamp | None
    comparison: "RunComparison | None" = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch, compare=False)


def require_comparison(model: ServedModel) -> "RunComparison":
    """How its photos are compared with the images of its run; raises Problem 422."""
    if model.comparison is None:
        raise Problem(
            422, "not-comparable",
            f"The model {model.name!r} is not compared with the images that it was trained on: "
            "start the service with --similar, for run folders.",
        )  # fmt: skip
    return model.comparison


class Models:
    """The models of a service; the first is the one that requests without a name mean.

    Only for the thread of the event loop, which is the only one to change what is loaded.
    """

    def __init__(self, sources: Sequence[ModelSource]) -> None:
        self.sources = {source.name: source for source in sources}
        self._loaded: dict[str, ServedModel] = {}
        # Why the last attempt to load a model failed, and which state of it.
        self._failed: dict[str, tuple[Stamp | None, str]] = {}

    @property
    def names(self) -> list[str]:
        """The names of all models, loaded or not."""
        return list(self.sources)

    @property
    def default_name(self) -> str:
        """The name of the first model."""
        return self.names[0]

    def loaded(self) -> list[ServedModel]:
        """Those that are loaded, in the order of the sources."""
        return [self._loaded[name] for name in self.sources if name in self._loaded]

    def find(self, name: str | None = None) -> ServedModel:
        """A loaded model by name; raises Problem 404."""
        wanted = self.source(name or self.default_name).name
        if wanted not in self._loaded:
            raise Problem(
                404, "not-loaded",
                f"The model {wanted!r} is not loaded; POST /v2/repository/models/NAME/load loads "
                "it.",
            )  # fmt: skip
        return self._loaded[wanted]

    def source(self, name: str) -> ModelSource:
        """Where a model comes from; raises Problem 404 for an unknown name."""
        if name not in self.sources:
            known = ", ".join(repr(each) for each in self.sources)
            raise Problem(404, "not-found", f"Unknown model {name!r}: this service has {known}.")
        return self.sources[name]

    def failure(self, name: str) -> str:
        """Why the model could not be loaded when that was last tried; empty if it could."""
        return self._failed.get(name, (None, ""))[1]

    def put(self, model: ServedModel) -> None:
        """Let requests from now on be answered by this model."""
        self._loaded[model.name] = model
        self._failed.pop(model.name, None)

    def remove(self, name: str) -> None:
        """Let no further request be answered by a model; those in flight still are."""
        self._loaded.pop(name, None)

    def note_failure(self, name: str, stamp: Stamp | None, reason: str) -> None:
        """Remember that this state of a model cannot be loaded; what is loaded stays."""
        self._failed[name] = stamp, reason

    def is_outdated(self, name: str, stamp: Stamp | None) -> bool:
        """Whether a model is loaded from another state, and this one is worth an attempt."""
        loaded, failed = self._loaded.get(name), self._failed.get(name)
        is_known = failed is not None and failed[0] == stamp
        return loaded is not None and stamp not in (None, loaded.stamp) and not is_known


def load_served(source: ModelSource, batch: int) -> ServedModel:
    """Load and warm up a model; batch: the largest number of images per forward pass.

    Raises what the source raises.
    """
    # Before loading: what is written meanwhile counts as newer.
    stamp = source.stamp()
    classifier = source.load()
    comparison = None if source.compare is None else source.compare(classifier)
    fast = inference_copy(classifier)
    model = ServedModel(source.name, classifier, fast, stamp, comparison)
    if source.shared is not None:
        for each in (model.classifier, model.fast):
            share_weights(each.net, source.shared)
    _warm_up(model, batch)
    return model


def inference_copy(classifier: Classifier) -> Classifier:
    """The classifier with a network of its own: optimised for inference if the logits agree.

    Always a copy, since the explainer hooks the original network in another thread, where it must
    not see the predictor's requests.
    """
    wanted = classifier.preprocessing
    shape = (_EXAMPLES, 3, wanted.height, wanted.width)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    example = on_device(images, device_of(classifier.net))
    made = inference_net(classifier.net, scale(example, wanted))
    own, found = (predict_logits(net, wanted, images) for net in (classifier.net, made.net))
    agrees = bool((found - own).abs().max() <= _TOLERANCE * own.abs().max())
    fast = made.net if agrees else copy.deepcopy(classifier.net)
    return replace(classifier, net=evaluated(fast))


def _warm_up(model: ServedModel, batch: int) -> None:
    """Run both batch sizes once: a first pass is slow, it allocates memory and selects kernels."""
    wanted = model.classifier.preprocessing
    for count in {1, batch}:
        images = np.zeros((count, 3, wanted.height, wanted.width), dtype=np.uint8)
        logits_of_few(model.fast.net, wanted, images)
