"""`glasshouse export`: a classifier as an ONNX file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named
from glasshouse.cli.options import (
    ClassNamesFile,
    Json,
    Model,
    Net,
    Offline,
    Weights,
    print_json,
)
from glasshouse.wording import pluralize


def export(
    *,
    model: Model = None,
    out: Annotated[Path, typer.Option(help="File to write.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--image",
            help="Image to verify the exported file with; repeatable. Default: random noise.",
        ),
    ] = None,
    format: Annotated[Literal["onnx"], typer.Option(help="File format.")] = "onnx",
    opset: Annotated[
        int | None, typer.Option(min=1, help="Version of ONNX's operators. Default: 20.")
    ] = None,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Export MODEL as one ONNX file and verify that onnxruntime predicts the same."""
    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError

    named = NamedModel(model, net, weights, class_names, offline).checked()
    early_checks.require_images(images or ())
    if out.is_dir():
        raise UsageError(f"{out} is a folder: expected a file name such as model.onnx")
    early_checks.require_folder_free_of_files(out.parent)
    from glasshouse.export.onnx import export_onnx, require_extra
    from glasshouse.export.parity import check_parity
    from glasshouse.models.predict import read_images

    require_extra()
    classifier = classifier_named(named)
    decoded = read_images(images, classifier) if images else None
    export_onnx(classifier, out, opset=opset)
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
        f"{out}: {size / 1e6:.1f} MB; verified with onnxruntime on "
        f"{pluralize(parity.images, 'image')}: probabilities differ by at most "
        f"{parity.difference:.1e}, and the predicted class agrees on {parity.same_class}"
    )
