"""`glasshouse predict`: the most probable classes of images."""

from collections.abc import Iterator, Mapping
from functools import partial
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
    On,
    Sets,
    UseDevice,
    Weights,
    print_json,
)
from glasshouse.cli.photo_work import Place, done_with_photos
from glasshouse.cli.resemblance import Compare, Similar, comparison, require_run
from glasshouse.wording import level, percentage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glasshouse.data.decode import Pixels
    from glasshouse.models.classifier import Classifier
    from glasshouse.models.conformity import SetRule
    from glasshouse.workflow.use.photo_and_run import Resemblance

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
Unknown = Annotated[
    bool,
    typer.Option(
        "--unknown",
        help="Name no class for an IMAGE that is unlike anything MODEL, a run, was trained on.",
    ),
]


# Photos of one piece of work on a cluster.
_PIECE = 64
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
    on: On = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the most probable classes of each IMAGE; files that cannot be read come at the end.

    Where an image may have several labels: every label whose probability reaches its threshold.
    Otherwise a prediction set as well: classes of which one is right for 95 % of such images.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.image_paths import end_with_bad_files, image_paths
    from glasshouse.cli.progress_bars import say
    from glasshouse.cluster.connection import require_address
    from glasshouse.errors import BadImage, UsageError
    from glasshouse.models.prediction_sets import SetRequest, describe_rule, rule_of

    require_address(on)
    model, given = model_and_images(model, images, net)
    place = Place(on, device)
    named = NamedModel(model, net, weights, class_names, offline, place.device_here).checked()
    if not given:
        raise UsageError("expected at least one IMAGE to classify; got none")
    asked = SetRequest(coverage, sets, class_conditional)
    paths = image_paths(given)
    early_checks.require_images(paths)
    require_run(named, similar=similar, unknown=unknown)
    classifier = classifier_named(named)
    rule = rule_of(classifier.conformity, classifier.thresholds, asked)
    compare = comparison(named, classifier, data_dir, similar=similar, unknown=unknown)
    bad: list[BadImage] = []
    answers = []
    for name, logits, found in done_with_photos(
        place, classifier, paths, partial(_judged, compare), bad, most=_PIECE
    ):
        is_refused = unknown and found is not None and found.familiarity.is_unknown
        shares = classifier.to_probabilities(logits[None])[0]
        answer = {} if is_refused else _answer(classifier, shares, top, rule)
        whole = {"image": str(name), **answer, **({} if found is None else found.as_json())}
        if json:
            answers.append(whole)
        else:
            print(*_lines(whole, found), sep="\n")
    if json:
        print_json(answers)
    elif rule is not None and asked.is_explicit:
        say(describe_rule(rule, classifier.class_names))
    end_with_bad_files(bad)


def _judged(
    compare: "Compare | None", classifier: "Classifier", names: "list[Path]", pixels: "Pixels"
) -> "list[tuple[Path, NDArray[np.float32], Resemblance | None]]":
    """The logits of some photos and, where that was asked for, what each resembles."""
    from glasshouse.models.predict import logits_of

    logits = logits_of(classifier, pixels, ids=[str(name) for name in names])
    found = [None] * len(names) if compare is None else compare(pixels, logits)
    return list(zip(names, logits, found, strict=True))


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


def _lines(answer: Mapping[str, Any], resemblance: "Resemblance | None") -> Iterator[str]:
    yield answer["image"]
    if "top" in answer:
        best = answer.get("labels", answer["top"])
        yield from map(_line, best) if best else [_NO_LABEL]
    if "prediction_set" in answer:
        found = answer["prediction_set"]
        yield f"  {level(found['coverage'])} prediction set: {found['words']}"
    if resemblance is not None:
        yield from (f"  {line}" for line in resemblance.lines(is_answered="top" in answer))


def _line(entry: Mapping[str, Any]) -> str:
    return f"  {percentage(entry['probability'], 2):>8}  {entry['class']}"
