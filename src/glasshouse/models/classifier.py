"""The central type of this package: a network with all that is needed to classify an image."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from glasshouse.data.images import ImageSet
from glasshouse.data.targets import Targets
from glasshouse.errors import DataError, ModelError, StorageError, require_type
from glasshouse.models.backbone import net_without_memory, rebuild_net
from glasshouse.models.conformity import COVERAGE, ConformityScores, SetMethod
from glasshouse.models.conformity_file import CONFORMITY_FILE, conformity_bytes, read_conformity
from glasshouse.models.final_softmax import logit_net
from glasshouse.models.forward import predict_logits, require_finite
from glasshouse.models.image_inputs import Images, as_given, image_ids, image_pixels
from glasshouse.models.logit_net import as_logit_net
from glasshouse.models.outputs import UNKNOWN, Predictions, to_probabilities
from glasshouse.models.prediction_sets import PredictionSets
from glasshouse.models.preprocessing import Preprocessing as Preprocessing, scale as scale
from glasshouse.models.views import Views
from glasshouse.models.weights import load_weights
from glasshouse.notebook import html_for_notebook
from glasshouse.setting_errors import first_problem
from glasshouse.storage import (
    read_json,
    read_tensors,
    sha256_of_bytes,
    sha256_of_file,
    tensors_to_bytes,
    write_bytes,
    write_json,
)

MODEL_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
# Of a safetensors file, generously: names and shapes of the tensors.
_HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class Classifier:
    """What training returns and what prediction, evaluation and explanation take.

    The network maps float ``(n, 3, h, w)`` to logits ``(n, k)``; probabilities are
    ``softmax(logits / temperature)``. thresholds: set where an image may have any number of labels;
    probabilities are then ``sigmoid(logits / temperature)``, one per label, and a label is
    predicted from its threshold on. architecture: JSON values from which the network can be built
    again; None for a custom network, which only its own code can build. mirror, shifts: which
    `views` of an image the answer is the mean of. conformity: the scores of held-out images, from
    which prediction sets follow; dropped for another temperature or number of classes. A copy with
    other weights, preprocessing or views is to be made with ``conformity=None``.

    A trial forward pass shows what the network returns. What is not yet logits becomes logits, and
    a GlasshouseWarning says how: a softmax or sigmoid at the end is left off, one output is read as
    the second of two classes, ``logits`` are taken from a dict, tuple or dataclass. Inputs are cast
    to the network's precision, and to luminance for one channel. Raises ModelError for a network
    that does not accept the images, or whose outputs are not one per class name.
    """

    net: nn.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    temperature: float = 1.0
    architecture: Mapping[str, Any] | None = None
    mirror: bool = False
    shifts: bool = False
    thresholds: tuple[float, ...] | None = None
    conformity: ConformityScores | None = None

    def __post_init__(self) -> None:
        require_type(self.net, nn.Module, "a network, which is a torch.nn.Module such as Net()")
        # The only way to set a field of a frozen dataclass.
        net = as_logit_net(
            logit_net(self.net),
            self.preprocessing,
            self.class_names,
            is_multi_label=self.is_multi_label,
            is_known=self.architecture is not None,
        )
        object.__setattr__(self, "net", net)
        if self.thresholds is not None:
            _require_thresholds(self.thresholds, self.class_names)
        if self.conformity is not None and not _fits(self.conformity, self):
            object.__setattr__(self, "conformity", None)

    def __repr__(self) -> str:
        return (
            f"Classifier({type(self.net).__name__} with {self.parameter_count:,} parameters, "
            f"{len(self.class_names)} {'labels' if self.is_multi_label else 'classes'})"
        )

    def _repr_html_(self) -> str:
        return html_for_notebook(self)

    @property
    def views(self) -> Views:
        """Whose mean logits are the answer."""
        return Views(self.mirror, self.shifts)

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have any number of labels, rather than exactly one."""
        return self.thresholds is not None

    def to_probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities ``(n, k)`` of the network's logits ``(n, k)``."""
        return to_probabilities(logits, self.temperature, self.thresholds)

    @property
    def parameter_count(self) -> int:
        """The number of parameters; a lazy layer has none until its first input."""
        known = (p for p in self.net.parameters() if not isinstance(p, nn.UninitializedParameter))
        return sum(each.numel() for each in known)

    def predict(self, images: Images, *, batch_size: int = 256) -> Predictions:
        """The logits of every image, in order, in float32; the network is left unchanged.

        images: an ImageSet, whose labels and ids the predictions keep; or the path of a file, a
        Pillow image, a uint8 array ``(h, w, 3)``, or a list of them. Files are decoded, resized
        and cropped as `glasshouse predict` does. batch_size: an upper bound; the results of an
        image do not depend on it beyond rounding. Raises BadImage for a file that cannot be read,
        DataError for what is no image, for a size the network was not trained on, and for an
        ImageSet of other classes, NotFinite for logits that are NaN or infinite.
        """
        images = as_given(images)
        pixels = image_pixels(images, self.preprocessing)
        targets: Targets = np.full(len(pixels), UNKNOWN, dtype=np.int64)
        if isinstance(images, ImageSet):
            require_same_classes(images, self)
            targets = images.label_matrix if self.is_multi_label else images.targets
        logits = predict_logits(
            self.net, self.preprocessing, pixels, batch_size=batch_size, views=self.views
        )
        if self.class_names and logits.shape[1:] != (len(self.class_names),):
            raise ModelError(
                f"the network returns the shape {tuple(logits.shape[1:])} per image, but the "
                f"classifier has {len(self.class_names)} class names"
            )
        ids = image_ids(images)
        require_finite(logits, ids, self.net)
        return Predictions(
            logits=logits.numpy(),
            targets=targets,
            ids=ids,
            class_names=self.class_names,
            temperature=self.temperature,
            thresholds=self.thresholds,
            conformity=self.conformity,
        )

    def prediction_sets(
        self,
        images: Images,
        *,
        coverage: float = COVERAGE,
        method: SetMethod = "lac",
        class_conditional: bool = False,
    ) -> PredictionSets:
        """The classes that each image may show; see `Predictions.prediction_sets`."""
        return self.predict(images).prediction_sets(
            coverage=coverage, method=method, class_conditional=class_conditional
        )


def first_thresholds(images: ImageSet) -> tuple[float, ...] | None:
    """A half for each label where images may have several; None for one label per image."""
    return (0.5,) * len(images.class_names) if images.is_multi_label else None


def require_same_classes(images: ImageSet, classifier: Classifier) -> None:
    """Raise DataError when labels would be compared with the names of other classes."""
    own, other = classifier.class_names, images.class_names
    # A network from elsewhere may have no names.
    if own and own != other:
        raise DataError(
            f"the images have the classes {_few(other)}, but the classifier was trained for "
            f"{_few(own)}: use images with the same classes in the same order"
        )
    if images.is_multi_label and not classifier.is_multi_label:
        raise DataError(
            "the images may have several labels each, but the classifier gives each image one "
            "class: train one on images with several labels, or use images with one label each"
        )


def _fits(scores: ConformityScores, classifier: Classifier) -> bool:
    """Whether scores can be those of a classifier."""
    fits = scores.fits(classifier.temperature, len(classifier.class_names))
    return fits and not classifier.is_multi_label


def _require_thresholds(thresholds: tuple[float, ...], class_names: tuple[str, ...]) -> None:
    if len(thresholds) != len(class_names) or not all(each > 0 for each in thresholds):
        raise ModelError(
            f"thresholds: expected a probability above 0 for each of the {len(class_names)} "
            f"labels, received {thresholds}"
        )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in total)" if len(names) > 5 else "")


def save_classifier(classifier: Classifier, folder: str | Path, *, half: bool = False) -> None:
    """Write model.safetensors and model.json; equal classifiers give equal bytes.

    Conformity scores, where it has them, go into conformity.safetensors. half: store the weights in
    half precision, which halves the file; they are loaded as float32.
    Raises ModelError for a network whose state is not only tensors.
    """
    folder = Path(folder)
    state = _state(classifier.net)
    if half:
        state = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    weights = tensors_to_bytes(state)
    scores = None if classifier.conformity is None else conformity_bytes(classifier.conformity)
    record = {
        "format": 1,
        "class_names": list(classifier.class_names),
        "temperature": classifier.temperature,
        "preprocessing": asdict(classifier.preprocessing),
        "architecture": None if classifier.architecture is None else dict(classifier.architecture),
        **asdict(classifier.views),
        **({"thresholds": list(classifier.thresholds)} if classifier.thresholds else {}),
        "weights": _named(WEIGHTS_FILE, weights),
        **({} if scores is None else {"conformity": _named(CONFORMITY_FILE, scores)}),
        "versions": {name: version(name) for name in ("glasshouse", "torch")},
    }
    write_bytes(folder / WEIGHTS_FILE, weights)
    if scores is not None:
        write_bytes(folder / CONFORMITY_FILE, scores)
    # Last: a folder with a model.json is complete, and its hash detects weights of another model.
    write_json(folder / MODEL_FILE, record)


def load_classifier(folder_or_file: str | Path, *, net: nn.Module | None = None) -> Classifier:
    """Load what save_classifier wrote, in evaluation mode and on the CPU.

    net: for a custom network, an instance with the same layers; its weights are overwritten. Raises
    ModelError for a missing or damaged model, and for missing or unexpected keys.
    """
    if net is not None and not isinstance(net, nn.Module):
        raise ModelError(f"net={net!r}: expected the network itself, a torch.nn.Module")
    folder = _model_folder(Path(folder_or_file))
    record = _read_record(folder / MODEL_FILE)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise ModelError(f"{weights} is missing; {MODEL_FILE} cannot be used without it")
    net = _rebuilt(record, weights) if net is None else net
    _require_size(weights, net)
    _require_described(weights, record.weights)
    load_weights(net, read_tensors(weights)[0], weights)
    return Classifier(
        net=net.eval(),
        preprocessing=record.preprocessing,
        class_names=record.class_names,
        temperature=record.temperature,
        architecture=record.architecture,
        mirror=record.mirror,
        shifts=record.shifts,
        thresholds=record.thresholds,
        conformity=_saved_conformity(folder, record),
    )


def saved_conformity(folder_or_file: str | Path) -> ConformityScores | None:
    """The conformity scores of what save_classifier wrote, without its weights.

    None for a classifier that has none. Raises ModelError.
    """
    folder = _model_folder(Path(folder_or_file))
    return _saved_conformity(folder, _read_record(folder / MODEL_FILE))


def saved_class_names(folder_or_file: str | Path) -> tuple[str, ...]:
    """The class names of what save_classifier wrote, without its weights; raises ModelError."""
    return _read_record(_model_folder(Path(folder_or_file)) / MODEL_FILE).class_names


class _File(BaseModel):
    file: str
    sha256: str


class _Record(BaseModel):
    """The contents of model.json; unknown keys, which a later version may add, are ignored."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(le=1)
    class_names: tuple[str, ...]
    temperature: float = Field(gt=0)
    preprocessing: Preprocessing
    architecture: dict[str, Any] | None
    mirror: bool = False
    shifts: bool = False
    thresholds: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    weights: _File
    conformity: _File | None = None


def _named(file: str, content: bytes) -> dict[str, str]:
    return {"file": file, "sha256": sha256_of_bytes(content)}


def _require_described(path: Path, described: _File) -> None:
    """Raise ModelError for a file that is missing or another one than model.json describes."""
    if not path.is_file():
        raise ModelError(f"{path} is missing; {MODEL_FILE} cannot be used without it")
    if sha256_of_file(path) != described.sha256:
        raise ModelError(
            f"{path} is not the file that {MODEL_FILE} describes (its SHA-256 differs): it is "
            "damaged or belongs to another model. Copy the complete folder again."
        )


def _saved_conformity(folder: Path, record: _Record) -> ConformityScores | None:
    if record.conformity is None:
        return None
    path = folder / CONFORMITY_FILE
    _require_described(path, record.conformity)
    try:
        scores = read_conformity(path)
    except StorageError as error:
        raise ModelError(str(error)) from error
    if not scores.fits(record.temperature, len(record.class_names)):
        raise ModelError(
            f"{path} has the scores of another classifier: of {scores.class_count} classes at "
            f"temperature {scores.temperature:g}. Copy the complete folder again."
        )
    return scores


def _state(net: nn.Module) -> dict[str, torch.Tensor]:
    state = net.state_dict()
    strange = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise ModelError(f"the network cannot be saved: {strange[0]} of its state is not a tensor")
    # Cloned, because safetensors refuses tensors that share memory.
    return {name: value.detach().clone() for name, value in state.items()}


def _model_folder(path: Path) -> Path:
    folder = path.parent if path.name in (MODEL_FILE, WEIGHTS_FILE) else path
    if not (folder / MODEL_FILE).is_file():
        what = "does not exist" if not path.exists() else f"has no {MODEL_FILE}"
        raise ModelError(
            f"{path} {what}. Expected the folder of a finished run, or one written by "
            "save_classifier; classifier_by_name also takes the names of bundled models and of "
            "networks of torchvision and timm."
        )
    return folder


def _require_size(weights: Path, net: nn.Module) -> None:
    """Raise ModelError for a file that is far larger than the network, or far smaller."""
    state = net.state_dict().values()
    if any(isinstance(value, nn.UninitializedParameter) for value in state):
        return
    expected = sum(value.numel() * value.element_size() for value in state)
    size = weights.stat().st_size
    # Double: the network may have been saved in double precision, or in half of it.
    if size > 2 * expected + _HEADER_BYTES or expected > 2 * size + _HEADER_BYTES:
        raise ModelError(
            f"{weights} is {size / 1e6:,.0f} MB, but its network has "
            f"{expected / 1e6:,.1f} MB of weights: it belongs to another model, or is damaged. "
            "Copy the complete folder again."
        )


def _read_record(path: Path) -> _Record:
    try:
        return _Record.model_validate(read_json(path))
    except StorageError as error:
        raise ModelError(str(error)) from error
    except ValidationError as error:
        problem = first_problem(error, "the document")
        raise ModelError(f"{path} does not describe a model: {problem}") from error


def _rebuilt(record: _Record, weights: Path) -> nn.Module:
    """The network that model.json describes, once it is known to fit the weights file."""
    architecture = record.architecture
    if architecture is None:
        raise ModelError(
            f"{weights.parent} has the weights of a custom network, which only its own code can "
            "build. Name it: --net FILE.py:FUNCTION on the command line, or "
            "load_classifier(folder, net=YourNetwork()) in Python."
        )
    if (planned := net_without_memory(architecture)) is not None:
        _require_size(weights, planned)
    return rebuild_net(architecture)
