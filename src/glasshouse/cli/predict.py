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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glasshouse.models.classifier import Classifier
    from glasshouse.models.conformity import SetRule

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]


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
    similar: Annotated[
        bool,
        typer.Option(
            "--similar",
            help="Name the five training images that an IMAGE resembles most, and say where it "
            "is unlike all of them. MODEL is a run, whose training images are read once.",
        ),
    ] = False,
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
    resembled = _resembled(named, classifier, data_dir) if similar else None
    bad: list[BadImage] = []
    answers = []
    for names, pixels in readable_chunks(paths, classifier, bad):
        logits = logits_of(classifier, pixels, ids=[str(name) for name in names])
        more: list[dict[str, Any]] = resembled(pixels) if resembled else [{} for _ in names]
        rows = zip(names, classifier.to_probabilities(logits), more, strict=True)
        for name, row, near in rows:
            answers.append({**_answer(classifier, name, row, top, rule), **near})
            for line in () if json else _lines(answers[-1]):
                print(line)
    if json:
        print_json(answers)
    elif rule is not None and asked.is_explicit:
        say(describe_rule(rule, classifier.class_names))
    end_with_bad_files(bad)


def _answer(
    classifier: "Classifier",
    name: Path,
    shares: "NDArray[np.float64]",
    top: int,
    rule: "SetRule | None",
) -> dict[str, Any]:
    """What is said of one image, as it is printed with --json."""
    from glasshouse.models.predict import most_probable, predicted_classes
    from glasshouse.models.prediction_sets import prediction_sets, set_json

    names, thresholds = classifier.class_names, classifier.thresholds
    answer: dict[str, Any] = {"image": str(name), "top": most_probable(shares, names, top)}
    if thresholds is not None:
        answer["labels"] = predicted_classes(shares, names, top, thresholds)
    if rule is not None:
        answer["prediction_set"] = set_json(prediction_sets(shares[None], names, rule), 0)
    return answer


def _resembled(
    named: NamedModel, classifier: "Classifier", data_dir: Path | None
) -> "Callable[[NDArray[np.uint8]], list[dict[str, Any]]]":
    """From pixels to what --similar says of each image."""
    from glasshouse.errors import UsageError
    from glasshouse.models.backbone import backbone_of
    from glasshouse.runs import folder as runs
    from glasshouse.workflow.use.similar_images import features_of, known_images, similar_images

    run = Path(str(named.model))
    if named.model is None or not (run / runs.RECIPE).is_file():
        raise UsageError(f"--similar needs the folder of a run, not {named.shown}")
    known = known_images(run, classifier, data_dir=data_dir, offline=named.offline)
    body, preprocessing = backbone_of(classifier.net), classifier.preprocessing
    return lambda pixels: [
        {"similar": each.as_json()}
        for each in similar_images(known, features_of(body, preprocessing, pixels))
    ]


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield answer["image"]
    best = answer.get("labels", answer["top"])
    yield from map(_line, best) if best else [_NO_LABEL]
    if "prediction_set" in answer:
        found = answer["prediction_set"]
        yield f"  {100 * found['coverage']:.4g} % prediction set: {found['words']}"
    if "similar" in answer:
        yield from (f"  {line}" for line in answer["similar"]["words"])


def _line(entry: Mapping[str, Any]) -> str:
    return f"  {entry['probability']:7.2%}  {entry['class']}"
