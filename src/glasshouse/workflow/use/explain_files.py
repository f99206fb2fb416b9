"""Image files to folders of sheets, raw maps and records."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from glasshouse.data.targets import joined_names
from glasshouse.errors import NotFinite
from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.overlay import DEFAULT, Palette
from glasshouse.explanation.draw.photo_and_map import draw_photo_and_map
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.methods import ACTIVATIONS, ALL, require_named_methods
from glasshouse.explanation.nouns import (
    Explanation,
    ExplanationPage,
    class_name_at,
    target_name,
)
from glasshouse.explanation.page_sets import sets_of_page
from glasshouse.explanation.pipeline import MapRequest, explain_each_label
from glasshouse.explanation.store import explanation_json, save_page
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import predicted_classes, to_probabilities
from glasshouse.models.prediction_sets import PredictionSets, SetRequest, rule_of, set_json
from glasshouse.storage import sha256_of_bytes, write_bytes

if TYPE_CHECKING:
    from glasshouse.workflow.use.photo_and_run import Resemblance


@dataclass(frozen=True)
class ExplainRequest:
    """What to explain, how to draw it, and the folder it goes to.

    channel: which channel of the first layer is drawn alone. tiles: how many channels are drawn
    together; unset: all. shared_scale: one scale for all of them. model: what it is called. sets:
    which prediction sets.
    """

    out: Path
    maps: MapRequest = field(default_factory=MapRequest)
    palette: Palette = DEFAULT
    channel: int = 0
    tiles: int | None = None
    shared_scale: bool = False
    model: str = ""
    sets: SetRequest = field(default_factory=SetRequest)


@dataclass(frozen=True)
class Explained:
    """One image's result: its prediction, the explained class, and the files written.

    explained_probability: that of the explained class. Where an image may have several labels,
    predicted names all that are predicted, both probabilities are those of the explained label,
    and an image has a result for each predicted label. sets: its prediction set, where the
    classifier has them. resemblance: to the images of the classifier's run, where that was asked
    for; of several labels of an image, the first has it.
    """

    image: str
    predicted: str
    probability: float
    explained: str
    explained_probability: float
    is_multi_label: bool
    files: tuple[Path, ...]
    explanations: tuple[Explanation, ...]
    sets: PredictionSets | None = None
    resemblance: "Resemblance | None" = None


def map_request(
    methods: Sequence[str],
    *,
    activation_layers: Sequence[str] = (),
    class_name: str | None = None,
    layer: str | None = None,
    is_checked: bool = True,
) -> MapRequest:
    """A request for methods as they are named on the command line.

    methods: names, "all", or "activations", which draws a shallow and a deep layer unless
    activation_layers names others; so does "all". Raises UsageError for an unknown one.
    """
    require_named_methods(methods)
    names = [name for name in methods if name != ACTIVATIONS]
    is_group = not activation_layers and {ALL, ACTIVATIONS} & set(methods)
    return MapRequest(
        methods=tuple(names),
        target_class=class_name,
        layer=layer,
        activations="shallow and deep" if is_group else tuple(activation_layers),
        is_checked=is_checked,
    )


def explain_images(
    classifier: Classifier,
    pixels: NDArray[np.uint8],
    names: Sequence[str],
    request: ExplainRequest,
) -> list[Explained]:
    """Explain each image: write its sheet, a PNG per map, activations, raw maps and page.json.

    Where an image may have several labels, each predicted label has them in a folder of its own.
    pixels: uint8 ``(n, 3, h, w)``; names: one per image, from which its folder is named. Raises
    NotFinite, naming the image.
    """
    rule = rule_of(classifier.conformity, classifier.thresholds, request.sets)
    results = []
    for image, name in zip(pixels, names, strict=True):
        try:
            pages = explain_each_label(classifier, image, request.maps)
        except NotFinite as error:
            raise NotFinite(f"{name}: {error}") from error
        for number, page in enumerate(pages, 1):
            page = replace(page, names=(name,), model=request.model, set_rule=rule)
            folder = request.out / _folder_name(name)
            if len(pages) > 1:
                folder = folder / f"label-{number}"
            results.append(_written(classifier, page, name, request, folder))
    return results


def as_json(explained: Explained) -> dict[str, Any]:
    """The result for a program."""
    return {
        "image": explained.image,
        "predicted": explained.predicted,
        "probability": round(explained.probability, 6),
        "explained": explained.explained,
        "explained_probability": round(explained.explained_probability, 6),
        **({} if explained.sets is None else {"prediction_set": set_json(explained.sets, 0)}),
        **({} if explained.resemblance is None else explained.resemblance.as_json()),
        "files": [str(path) for path in explained.files],
        "maps": [explanation_json(each) for each in explained.explanations],
    }


def _written(
    classifier: Classifier,
    page: ExplanationPage,
    name: str,
    request: ExplainRequest,
    folder: Path,
) -> Explained:
    files = []
    for stem, image in _drawn(page, request).items():
        files.append(folder / f"{stem}.png")
        write_bytes(files[-1], to_png(image))
    files += save_page(page, folder, classifier)
    shares = to_probabilities(page.logits[0], page.temperature, page.thresholds)
    best = int(shares.argmax())
    own = int(page.explanations[0].targets[0]) if page.explanations else best
    predicted = class_name_at(page.class_names, best)
    if page.thresholds is not None:
        found = predicted_classes(shares, page.class_names, 0, page.thresholds)
        predicted = joined_names([str(each["class"]) for each in found])
        best = own
    return Explained(
        image=name,
        predicted=predicted,
        probability=float(shares[best]),
        explained=target_name(page.explanations[0], 0) if page.explanations else predicted,
        explained_probability=float(shares[own]),
        is_multi_label=page.thresholds is not None,
        files=tuple(files),
        explanations=page.explanations,
        sets=sets_of_page(page),
    )


def _drawn(page: ExplanationPage, request: ExplainRequest) -> dict[str, Image]:
    """The images of a page by the stem of their file."""
    drawn: dict[str, Image] = {}
    if page.explanations:
        drawn["sheet"] = draw_sheet(page, palette=request.palette)
    for place, each in enumerate(page.explanations):
        drawn[each.method] = draw_photo_and_map(page, place, palette=request.palette)
    if page.activations and page.activations[0].values.ndim == 4:
        drawn["activations-one-channel"] = draw_channel(
            page.activations[0], request.channel, palette=request.palette
        )
    for layer in page.activations:
        drawn[f"activations-{layer.layer.replace(':', '-')}"] = draw_activations(
            layer,
            shared_scale=request.shared_scale,
            most=request.tiles,
            palette=request.palette,
        )
    return drawn


def _folder_name(image: str) -> str:
    # Files of the same name from different folders must not share a folder.
    digest = sha256_of_bytes(os.fsencode(image))[:6]
    return f"{Path(image).stem}-{digest}"
