"""`glasshouse predict`: the most probable classes of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from glasshouse.cli.options import IMAGE_HELP, Json, Model, Offline, Weights, print_json

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]


def predict(
    model: Model,
    images: Images,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    weights: Weights = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the most probable classes of each IMAGE; files that cannot be read come at the end."""
    from glasshouse.cli import early_checks
    from glasshouse.cli.image_paths import end_with_bad_files, image_paths, readable_chunks
    from glasshouse.errors import BadImage

    early_checks.require_model(model, weights)
    paths = image_paths(images)
    early_checks.require_images(paths)
    from glasshouse.cli.named_classifier import classifier_named
    from glasshouse.models.predict import classify, most_probable

    classifier = classifier_named(model, weights, offline=offline)
    bad: list[BadImage] = []
    answers = []
    for names, pixels in readable_chunks(paths, classifier, bad):
        for name, row in zip(names, classify(classifier, pixels), strict=True):
            best = most_probable(row, classifier.class_names, top)
            answers.append({"image": str(name), "top": best})
            for line in () if json else (str(name), *map(_line, best)):
                print(line)
    if json:
        print_json(answers)
    end_with_bad_files(bad)


def _line(entry: "Mapping[str, Any]") -> str:
    return f"  {entry['probability']:7.2%}  {entry['class']}"
