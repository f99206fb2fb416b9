"""`glasshouse export`: a classifier as an ONNX file."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named
from glasshouse.cli.options import (
    ClassNamesFile,
    DataDir,
    Json,
    Model,
    Net,
    Offline,
    Weights,
    print_json,
)
from glasshouse.cli.resemblance import require_run
from glasshouse.wording import pluralize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glasshouse.export.parity import Parity
    from glasshouse.models.classifier import Classifier
    from glasshouse.workflow.use.photo_and_run import RunComparison


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
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown",
            help="The file also says how unusual an image is, with a p-value. MODEL is a run.",
        ),
    ] = False,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    data_dir: DataDir = None,
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
    require_run(named, similar=False, unknown=unknown)
    from glasshouse.export.onnx import export_onnx, require_extra
    from glasshouse.export.parity import check_parity
    from glasshouse.models.predict import read_images

    require_extra()
    classifier = classifier_named(named)
    decoded = read_images(images, classifier) if images else None
    run = _compared(named, classifier, data_dir) if unknown else None
    export_onnx(classifier, out, opset=opset, unknown=None if run is None else run.known.measure)
    judge = None if run is None else partial(_p_values, run)
    parity = check_parity(classifier, out, decoded, judge)
    _print(out, parity, json)


def _print(out: Path, parity: "Parity", json: bool) -> None:
    size, apart = out.stat().st_size, parity.p_difference
    if json:
        print_json(
            {
                "file": str(out),
                "bytes": size,
                "images": parity.images,
                "difference": parity.difference,
                "same_class": parity.same_class,
                **({} if apart is None else {"p_difference": apart}),
            }
        )
        return
    print(
        f"{out}: {size / 1e6:.1f} MB; verified with onnxruntime on "
        f"{pluralize(parity.images, 'image')}: probabilities differ by at most "
        f"{parity.difference:.1e}, and the answer agrees on {parity.same_class}"
        + ("" if apart is None else f"; p-values differ by at most {apart:.1e}")
    )


def _compared(
    named: NamedModel, classifier: "Classifier", data_dir: Path | None
) -> "RunComparison":
    from glasshouse.workflow.use.photo_and_run import RunComparison

    run = Path(str(named.model))
    return RunComparison.of(run, classifier, data_dir=data_dir, offline=named.offline)


def _p_values(
    run: "RunComparison", pixels: "NDArray[np.uint8]", logits: "NDArray[np.float32]"
) -> "NDArray[np.float64]":
    import numpy as np

    found = run.compare(pixels, logits, similar=False)
    return np.array([each.familiarity.p_value for each in found], dtype=np.float64)
