"""`glasshouse export`: a classifier as a file for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from glasshouse.cli.options import Json, Model, Offline, Weights, print_json


def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="the file to write")],
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="an image to compare answers on; may be repeated [noise]"),
    ] = None,
    format: Annotated[Literal["onnx"], typer.Option(help="the kind of file")] = "onnx",
    weights: Weights = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Write MODEL as one ONNX file, and check that onnxruntime gives the same answers."""
    from glasshouse.errors import UsageError
    from glasshouse.export.onnx import export_onnx, require_extra
    from glasshouse.export.parity import check_parity
    from glasshouse.workflow.use.model_names import classifier_by_name
    from glasshouse.workflow.use.predictions import read_images

    require_extra()
    if out.is_dir():
        raise UsageError(f"{out} is a folder: expected the name of a file, such as model.onnx")
    classifier = classifier_by_name(model, weights=weights, offline=offline)
    decoded = read_images(images, classifier) if images else None
    export_onnx(classifier, out)
    parity = check_parity(classifier, out, decoded)
    size = out.stat().st_size
    if json:
        print_json(
            {
                "file": str(out),
                "bytes": size,
                "images": parity.images,
                "difference": parity.difference,
                "same_class": parity.same_class,
            }
        )
        return
    print(
        f"{out}: {size / 1e6:.1f} MB; on {parity.images} images onnxruntime's probabilities "
        f"differ by {parity.difference:.1e} at the most, {parity.same_class} top classes agree"
    )
