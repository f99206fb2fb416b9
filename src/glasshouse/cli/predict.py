"""`glasshouse predict`: the most probable classes of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named, model_and_images
from glasshouse.cli.options import (
    IMAGE_HELP,
    ClassNamesFile,
    Json,
    Model,
    Net,
    Offline,
    UseDevice,
    Weights,
    print_json,
)

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]


_NO_LABEL = "  no label reaches its threshold"


def predict(
    model: Model = None,
    images: Images = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    device: UseDevice = "cpu",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the most probable classes of each IMAGE; files that cannot be read come at the end.

    Where an image may have several labels: every label whose probability reaches its threshold.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.image_paths import end_with_bad_files, image_paths, readable_chunks
    from glasshouse.errors import BadImage, UsageError

    model, given = model_and_images(model, images, net)
    named = NamedModel(model, net, weights, class_names, offline, device).checked()
    if not given:
        raise UsageError("expected at least one IMAGE to classify; got none")
    paths = image_paths(given)
    early_checks.require_images(paths)
    from glasshouse.models.predict import logits_of, most_probable, predicted_classes

    classifier = classifier_named(named)
    bad: list[BadImage] = []
    answers = []
    for names, pixels in readable_chunks(paths, classifier, bad):
        logits = logits_of(classifier, pixels, ids=[str(name) for name in names])
        for name, row in zip(names, classifier.to_probabilities(logits), strict=True):
            best = most_probable(row, classifier.class_names, top)
            answer: dict[str, Any] = {"image": str(name), "top": best}
            if classifier.thresholds is not None:
                best = predicted_classes(row, classifier.class_names, top, classifier.thresholds)
                answer["labels"] = best
            answers.append(answer)
            for line in () if json else (str(name), *(map(_line, best) if best else [_NO_LABEL])):
                print(line)
    if json:
        print_json(answers)
    end_with_bad_files(bad)


def _line(entry: "Mapping[str, Any]") -> str:
    return f"  {entry['probability']:7.2%}  {entry['class']}"
