"""`glasshouse predict`: the most probable classes of images."""

from pathlib import Path
from typing import Annotated

import typer

from glasshouse.cli.options import Json, Model, Offline, Weights, print_json


def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print.")] = 5,
    weights: Weights = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print the most probable classes of each IMAGE."""
    from glasshouse.cli import early_checks

    early_checks.require_model(model, weights)
    early_checks.require_images(images)
    from glasshouse.models.predict import classify, most_probable
    from glasshouse.workflow.use.model_names import classifier_by_name
    from glasshouse.workflow.use.predictions import read_images

    classifier = classifier_by_name(model, weights=weights, offline=offline)
    probabilities = classify(classifier, read_images(images, classifier))
    answers = [
        {
            "image": str(image),
            "top": most_probable(row, classifier.class_names, top),
        }
        for image, row in zip(images, probabilities, strict=True)
    ]
    if json:
        print_json(answers)
        return
    for answer in answers:
        print(answer["image"])
        for entry in answer["top"]:
            print(f"  {entry['probability']:7.2%}  {entry['class']}")  # type: ignore[index]
