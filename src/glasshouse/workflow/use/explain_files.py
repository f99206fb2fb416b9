"""Explanations of image files, or of a run's mistakes, as a folder of images and records."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, take
from glasshouse.data.sources import load_splits
from glasshouse.errors import UsageError
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.explanation.draw.cells import ColourMap, draw_mistakes, to_png
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.explain import explain, explain_page
from glasshouse.explanation.graph.relu_rules import ExplanationWarning
from glasshouse.explanation.methods import (
    SLOW_METHODS,
    ExplainSettings,
    MethodName,
    require_methods,
)
from glasshouse.explanation.mistakes import explain_mistakes
from glasshouse.explanation.nouns import Explanation, save_explanation, target_name
from glasshouse.explanation.page import ExplanationPage
from glasshouse.explanation.trust.checks import check_all, sheet_methods, telling_layers
from glasshouse.explanation.trust.localisation import Localisation, score_localisation
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import load_predictions, predict, softmax
from glasshouse.report.explanation_page import write_mistakes_page
from glasshouse.runs import folder as runs
from glasshouse.storage import sha256_of_bytes, write_bytes
from glasshouse.workflow.train.pretrained import data_settings
from glasshouse.workflow.train.reporting import write_run_report
from glasshouse.workflow.use.predictions import load_run_classifier


@dataclass(frozen=True)
class ExplainRequest:
    """What to explain and draw.

    methods: names, "all" or "activations". activation_layers: whose channels are drawn besides.
    channel: the one that is drawn alone; tiles: how many are drawn together, unset: all.
    shared_scale: one scale for all tiles. checks: whether to say of each map if it may be trusted.
    """

    out: Path
    methods: tuple[str, ...] = ("all",)
    class_name: str | None = None
    layer: str | None = None
    activation_layers: tuple[str, ...] = ()
    checks: bool = True
    colours: ColourMap = "jet"
    channel: int = 0
    tiles: int | None = None
    shared_scale: bool = False


@dataclass(frozen=True)
class Explained:
    """One image's answer: what was predicted, what was explained, and the files written."""

    image: str
    predicted: str
    probability: float
    explained: str
    files: tuple[Path, ...]
    explanations: tuple[Explanation, ...]


def explain_images(
    classifier: Classifier,
    pixels: NDArray[np.uint8],
    names: Sequence[str],
    request: ExplainRequest,
) -> list[Explained]:
    """Explain each image and write its sheet, activations, raw maps and records.

    pixels: uint8 ``(n, 3, h, w)``; names: one for each image, from which its folder is named.
    """
    methods, settings = _plan(classifier, pixels[0], request)
    answers = []
    for index, name in enumerate(names):
        with warnings.catch_warnings():
            # The sheets and the records say the same.
            warnings.simplefilter("ignore", ExplanationWarning)
            page = explain_page(
                classifier,
                pixels[index : index + 1],
                methods=methods,
                target_class=request.class_name,
                layer=request.layer,
                settings=settings,
            )
            if request.checks and page.explanations:
                page = replace(page, explanations=check_all(classifier, page.explanations))
        answers.append(_written(classifier, page, name, request))
    return answers


def explain_run_mistakes(
    run: Path, out: Path | None = None, *, data_dir: Path | None = None, offline: bool = False
) -> Path:
    """Write a page of a run's worst mistakes and most confused pairs; returns its path.

    The page lies beside the report, which then shows its first part and links to it, or alone in
    the folder out. The mistakes are those on the validation split: what is learned from them may
    change the model, and the test split must not have a say in that.
    """
    classifier, facts = load_run_classifier(run), runs.read_run(run)
    recorded, recipe = facts.environment["data"], facts.recipe
    is_own = recipe.model.pretrained is None
    settings = recipe.data if is_own else data_settings(recorded["source"], recipe)
    splits = replace(
        load_splits(recorded["source"], settings, data_dir=data_dir, offline=offline),
        notes=tuple(recorded["notes"]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExplanationWarning)
        predictions = predict(classifier, splits.validation)
        found = explain_mistakes(classifier, splits.validation, predictions)
        scores = score_maps(classifier, splits.validation)
    if out is not None:
        write_mistakes_page(found, out / runs.MISTAKES, scores=scores)
        return out / runs.MISTAKES
    write_mistakes_page(found, run / runs.MISTAKES, scores=scores, report=runs.REPORT)
    if found:
        write_bytes(run / runs.EXPLAINED_MISTAKES, to_png(draw_mistakes(found[0])))
    predictions = load_predictions(run / runs.PREDICTIONS)
    write_run_report(run, splits, classifier, predictions, evaluate(predictions))
    return run / runs.MISTAKES


def score_maps(
    classifier: Classifier, images: ImageSet, *, most: int = 200
) -> tuple[Localisation, ...]:
    """How well the maps of the true classes find the objects; empty without masks.

    Methods of many passes are left out. most: of the images.
    """
    if images.masks is None:
        return ()
    some = take(images, np.arange(min(most, len(images))))
    methods = [m for m in sheet_methods(classifier, some.pixels[0]) if m not in SLOW_METHODS]
    found = explain(classifier, some.pixels, methods=methods, target_class=some.labels)
    assert some.masks is not None
    return score_localisation(found, some.masks)


def as_json(explained: Explained) -> dict[str, Any]:
    """The answer for a program."""
    return {
        "image": explained.image,
        "predicted": explained.predicted,
        "probability": round(explained.probability, 6),
        "explained": explained.explained,
        "files": [str(path) for path in explained.files],
        "maps": [
            {
                "method": each.method,
                "layer": each.layer,
                "relu_operations": each.relu_operations,
                "notes": list(each.notes),
                "warnings": list(each.warnings),
                "checks": {c.name: {"verdict": c.verdict, "words": c.words} for c in each.checks},
            }
            for each in explained.explanations
        ],
    }


def _plan(
    classifier: Classifier, image: NDArray[np.uint8], request: ExplainRequest
) -> tuple[tuple[MethodName, ...], ExplainSettings]:
    names = tuple(name for name in request.methods if name not in ("all", "activations"))
    try:
        methods = require_methods(names)
    except UsageError as error:
        raise UsageError(f"{error} Besides these: all, activations.") from error
    if "all" in request.methods:
        every = sheet_methods(classifier, image, request.layer)
        methods = tuple(dict.fromkeys([*every, *methods]))
    layers = request.activation_layers
    if not layers and {"all", "activations"} & set(request.methods):
        layers = tuple(info.name for info in telling_layers(classifier, image))
    return methods, ExplainSettings(activation_layers=layers)


def _written(
    classifier: Classifier, page: ExplanationPage, image: str, request: ExplainRequest
) -> Explained:
    folder = request.out / _folder_name(image)
    drawn: dict[str, Figure] = {}
    if page.explanations:
        drawn["sheet"] = draw_sheet(page, colours=request.colours)
    if page.activations and page.activations[0].values.ndim == 4:
        drawn["activations-one-channel"] = draw_channel(page.activations[0], request.channel)
    for layer in page.activations:
        drawn[f"activations-{layer.layer.replace(':', '-')}"] = draw_activations(
            layer, shared_scale=request.shared_scale, most=request.tiles
        )
    files = []
    for name, figure in drawn.items():
        files.append(folder / f"{name}.png")
        write_bytes(files[-1], to_png(figure))
    files += [save_explanation(each, folder, classifier) for each in page.explanations]
    shares = softmax(page.logits[0].astype(np.float64) / page.temperature)
    best = int(shares.argmax())
    predicted = page.class_names[best] if page.class_names else str(best)
    return Explained(
        image=image,
        predicted=predicted,
        probability=float(shares[best]),
        explained=target_name(page.explanations[0], 0) if page.explanations else predicted,
        files=tuple(files),
        explanations=page.explanations,
    )


def _folder_name(image: str) -> str:
    # Two files of one name from different folders must not share a folder.
    digest = sha256_of_bytes(image.encode())[:6]
    return f"{Path(image).stem}-{digest}"
