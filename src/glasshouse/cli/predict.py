"""`glasshouse predict`: the most probable classes of images."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named, model_and_images
from glasshouse.cli.options import (
    IMAGE_HELP,
    ClassConditional,
    ClassNamesFile,
    Coverage,
    DataDir,
    Json,
    Model,
    Net,
    Offline,
    Sets,
    UseDevice,
    Weights,
    print_json,
)
from glasshouse.wording import level, percentage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glasshouse.models.classifier import Classifier
    from glasshouse.models.conformity import SetRule

    _Compared = Callable[[NDArray[np.uint8], NDArray[np.float32]], list[dict[str, Any]]]

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
Similar = Annotated[
    bool,
    typer.Option(
        "--similar",
        help="Name the five training images that an IMAGE resembles most, and say where it "
        "is unlike all of them. MODEL is a run, whose training images are read once.",
    ),
]
Unknown = Annotated[
    bool,
    typer.Option(
        "--unknown",
        help="Name no class for an IMAGE that is unlike anything MODEL, a run, was trained on.",
    ),
]


_NO_LABEL = "  no label reaches its threshold"


def predict(
    model: Model = None,
    images: Images = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    coverage: Coverage = None,
    sets: Sets = None,
    class_conditional: ClassConditional = False,
    similar: Similar = False,
    unknown: Unknown = False,
    data_dir: DataDir = None,
    device: UseDevice = "cpu",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the most probable classes of each IMAGE; files that cannot be read come at the end.

    Where an image may have several labels: every label whose probability reaches its threshold.
    Otherwise a prediction set as well: classes of which one is right for 95 % of such images.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.image_paths import end_with_bad_files, image_paths, readable_chunks
    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import BadImage, UsageError
    from glasshouse.models.prediction_sets import SetRequest, describe_rule, rule_of

    model, given = model_and_images(model, images, net)
    named = NamedModel(model, net, weights, class_names, offline, device).checked()
    if not given:
        raise UsageError("expected at least one IMAGE to classify; got none")
    asked = SetRequest(coverage, sets, class_conditional)
    paths = image_paths(given)
    early_checks.require_images(paths)
    from glasshouse.models.predict import logits_of

    classifier = classifier_named(named)
    rule = rule_of(classifier.conformity, classifier.thresholds, asked)
    compared = _compared(named, classifier, data_dir, similar=similar, unknown=unknown)
    bad: list[BadImage] = []
    answers = []
    for names, pixels in readable_chunks(paths, classifier, bad):
        logits = logits_of(classifier, pixels, ids=[str(name) for name in names])
        rows = zip(
            names, classifier.to_probabilities(logits), compared(pixels, logits), strict=True
        )
        for name, row, more in rows:
            is_refused = unknown and more["unknown"]["is_unknown"]
            answer = {} if is_refused else _answer(classifier, row, top, rule)
            answers.append({"image": str(name), **answer, **more})
            for line in () if json else _lines(answers[-1]):
                print(line)
    if json:
        print_json(answers)
    elif rule is not None and asked.is_explicit:
        say(describe_rule(rule, classifier.class_names))
    end_with_bad_files(bad)


def _answer(
    classifier: "Classifier", shares: "NDArray[np.float64]", top: int, rule: "SetRule | None"
) -> dict[str, Any]:
    """Which classes are named for one image, as they are printed with --json."""
    from glasshouse.models.predict import most_probable, predicted_classes
    from glasshouse.models.prediction_sets import prediction_sets, set_json

    names, thresholds = classifier.class_names, classifier.thresholds
    answer: dict[str, Any] = {"top": most_probable(shares, names, top)}
    if thresholds is not None:
        answer["labels"] = predicted_classes(shares, names, top, thresholds)
    if rule is not None:
        answer["prediction_set"] = set_json(prediction_sets(shares[None], names, rule), 0)
    return answer


def _compared(
    named: NamedModel,
    classifier: "Classifier",
    data_dir: Path | None,
    *,
    similar: bool,
    unknown: bool,
) -> "_Compared":
    """From pixels and logits to what --similar and --unknown say of each image."""
    if not (similar or unknown):
        return lambda pixels, logits: [{} for _ in pixels]
    from glasshouse.errors import UsageError
    from glasshouse.models.backbone import backbone_of
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.use.known_images import features_of, known_images
    from glasshouse.workflow.use.similar_images import similar_images
    from glasshouse.workflow.use.unknown_images import familiarity

    run = Path(str(named.model))
    if named.model is None or not (run / runs.RECIPE).is_file():
        option = "--similar" if similar else "--unknown"
        raise UsageError(f"{option} needs the folder of a run, not {named.shown}")
    known = known_images(run, classifier, data_dir=data_dir, offline=named.offline)
    body, several = backbone_of(classifier.net), classifier.is_multi_label

    def compared(
        pixels: "NDArray[np.uint8]", logits: "NDArray[np.float32]"
    ) -> list[dict[str, Any]]:
        features = features_of(body, classifier.preprocessing, pixels)
        judged = familiarity(known, features, logits, several=several)
        said: list[dict[str, Any]] = [{"unknown": each.as_json()} for each in judged]
        if not similar:
            return said
        found = similar_images(known, features)
        return [{**one, "similar": each.as_json()} for one, each in zip(said, found, strict=True)]

    return compared


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield answer["image"]
    if "top" in answer:
        best = answer.get("labels", answer["top"])
        yield from map(_line, best) if best else [_NO_LABEL]
    if "prediction_set" in answer:
        found = answer["prediction_set"]
        yield f"  {level(found['coverage'])} prediction set: {found['words']}"
    if "unknown" in answer:
        found = answer["unknown"]
        advice = "do not rely on the answer" if "top" in answer else "no class is named"
        yield f"  {found['words']}" + (f"; {advice}" if found["is_unknown"] else "")
    for near in answer.get("similar", ()):
        yield f"  resembles {near['label']} ({near['distance']:.3f}): {near['image']}"


def _line(entry: Mapping[str, Any]) -> str:
    return f"  {percentage(entry['probability'], 2):>8}  {entry['class']}"
