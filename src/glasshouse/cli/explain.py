"""`glasshouse explain`: why a classifier predicts what it predicts."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    Reread,
    Sets,
    UseDevice,
    Weights,
    print_json,
)
from glasshouse.cli.photo_work import Place, done_with_photos
from glasshouse.cli.resemblance import Compare, Similar, comparison, require_run
from glasshouse.errors import UsageError
from glasshouse.explanation.methods import ALL, ALL_METHODS, require_named_methods
from glasshouse.wording import percentage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from glasshouse.data.decode import Pixels
    from glasshouse.errors import BadImage
    from glasshouse.explanation.nouns import Explanation
    from glasshouse.explanation.pipeline import MapRequest
    from glasshouse.models.classifier import Classifier
    from glasshouse.workflow.use.explain_files import Explained, ExplainRequest
    from glasshouse.workflow.use.photo_pieces import SentExplanations

    _Work = Callable[..., list[Explained]]

# Photos of one piece of work on a cluster.
_PIECE = 8
_METHOD_HELP = f"One of {ALL}, activations, {', '.join(ALL_METHODS)}; repeatable."

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
Methods = Annotated[list[str] | None, typer.Option("--method", help=_METHOD_HELP)]
ClassName = Annotated[
    str | None,
    typer.Option(
        "--class", help="Class to explain, by name or number. Default: the predicted class."
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(
        help="Layer of the class activation maps. Default: chosen, and the sheet says why."
    ),
]
Activations = Annotated[
    list[str] | None,
    typer.Option("--activations", help="Draw all channels of this layer; repeatable."),
]
Channel = Annotated[int, typer.Option(min=0, help="Channel of the first layer to draw alone.")]
Tiles = Annotated[
    int | None, typer.Option(min=1, help="Draw only this many channels together. Default: all.")
]
SharedScale = Annotated[
    bool, typer.Option("--shared-scale", help="Use one colour scale for all channels of a layer.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Output folder. Default: explanations, with --errors the run folder."),
]
Checks = Annotated[bool, typer.Option(help="Check whether each map can be trusted.")]
Colours = Annotated[
    Literal["inferno", "viridis", "jet"],
    typer.Option(help="Colours of unsigned maps and of activations."),
]
Layers = Annotated[
    bool, typer.Option("--layers", help="List the layers that can be named, and exit.")
]
Errors = Annotated[
    bool,
    typer.Option("--errors", help="Explain a run's worst mistakes and most confused classes."),
]


def explain(
    model: Model = None,
    images: Images = None,
    method: Methods = None,
    class_name: ClassName = None,
    layer: Layer = None,
    activations: Activations = None,
    channel: Channel = 0,
    tiles: Tiles = None,
    shared_scale: SharedScale = False,
    out: Out = None,
    checks: Checks = True,
    colours: Colours = "inferno",
    layers: Layers = False,
    errors: Errors = False,
    coverage: Coverage = None,
    sets: Sets = None,
    class_conditional: ClassConditional = False,
    similar: Similar = False,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    device: UseDevice = "cpu",
    on: On = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Explain what MODEL predicts for each IMAGE, and check whether the maps can be trusted."""
    from glasshouse.cli.image_paths import end_with_bad_files, image_paths

    place, has_photos = Place(on, device), not (errors or layers)
    _require_cluster(on, has_photos=has_photos)
    model, given = model_and_images(model, images, net)
    named = NamedModel(model, net, weights, class_names, offline, place.device_here)
    _require_source(named, errors, reread)
    _require_photos(named, given, similar, are_used=has_photos)
    named.checked()
    paths = image_paths(given) if given and has_photos else []
    _require_arguments(paths, out, method or (), model or "", class_name)
    if errors:
        _write_mistakes(named, out, data_dir, json)
        return
    classifier = classifier_named(named)
    if layers:
        _print_layers(classifier, json)
        return
    from glasshouse.models.prediction_sets import SetRequest
    from glasshouse.workflow.use.explain_files import ExplainRequest

    maps = _maps(method, activations, class_name, layer, checks)
    request = ExplainRequest(
        out or Path("explanations"), maps, colours, channel, tiles, shared_scale,
        model=named.shown, sets=SetRequest(coverage, sets, class_conditional),
    )  # fmt: skip
    compare = comparison(named, classifier, data_dir, similar=similar)
    bad: list[BadImage] = []
    work = partial(_explained, request, compare)
    _print_answers(_explained_at(place, classifier, paths, work, request.out, bad), json)
    end_with_bad_files(bad)


def _maps(
    method: list[str] | None,
    activations: list[str] | None,
    class_name: str | None,
    layer: str | None,
    checks: bool,
) -> "MapRequest":
    from glasshouse.workflow.use.explain_files import map_request

    return map_request(
        method or ["activations" if activations else "all"],
        activation_layers=activations or (),
        class_name=class_name,
        layer=layer,
        is_checked=checks,
    )


def _explained(
    request: "ExplainRequest",
    compare: Compare | None,
    classifier: "Classifier",
    path: Path,
    image: "Pixels",
    out: Path | None = None,
) -> "list[Explained]":
    """What is explained of one image ``(1, 3, h, w)``; out: in place of the request's folder."""
    from glasshouse.models.predict import logits_of
    from glasshouse.workflow.use.explain_files import explain_images

    request = request if out is None else replace(request, out=out)
    results = explain_images(classifier, image, [str(path)], request)
    if compare is None:
        return results
    (found,) = compare(image, logits_of(classifier, image, ids=[str(path)]))
    # Said once, however many labels of the image are explained.
    return [replace(results[0], resemblance=found), *results[1:]]


def _explained_at(
    place: Place,
    classifier: "Classifier",
    paths: "Sequence[Path]",
    work: "_Work",
    out: Path,
    bad: "list[BadImage]",
) -> "Iterator[Explained]":
    """One result after another, so that the maps of many images never fill the memory."""
    if place.on is None:
        yield from done_with_photos(
            place, classifier, paths, partial(_each, work), bad, most=_PIECE
        )
        return
    for sent in done_with_photos(place, classifier, paths, partial(_sent, work), bad, most=_PIECE):
        yield from sent.put_into(out)


def _each(
    work: "_Work", classifier: "Classifier", names: list[Path], pixels: "Pixels"
) -> "Iterator[Explained]":
    for number, name in enumerate(names):
        yield from work(classifier, name, pixels[number : number + 1])


def _sent(
    work: "_Work", classifier: "Classifier", names: list[Path], pixels: "Pixels"
) -> "list[SentExplanations]":
    from glasshouse.workflow.use.photo_pieces import with_files

    return [
        with_files(partial(work, classifier, name, pixels[number : number + 1]))
        for number, name in enumerate(names)
    ]


def _require_cluster(on: str | None, *, has_photos: bool) -> None:
    from glasshouse.cluster.connection import require_address

    require_address(on)
    if on is not None and not has_photos:
        raise UsageError("--on explains IMAGE files: leave it out with --errors or --layers")


def _require_source(named: NamedModel, errors: bool, reread: bool) -> None:
    """What --errors needs: the images that a finished run was trained on."""
    from glasshouse.cli import early_checks

    if not errors:
        early_checks.reread(reread, None, "IMAGE files are always decoded; use it with --errors")
        return
    if named.model is None:
        raise UsageError("--errors explains the mistakes of a run: name its folder as MODEL")
    early_checks.require_finished([Path(named.model)])
    early_checks.reread_run(reread, Path(named.model))


def _require_photos(
    named: NamedModel, images: list[Path], similar: bool, *, are_used: bool
) -> None:
    if similar and not are_used:
        raise UsageError(
            "--similar is about the IMAGE files: leave it out with --errors or --layers"
        )
    if not images and are_used:
        raise UsageError("expected at least one IMAGE to explain, or --errors; got none")
    require_run(named, similar=similar)


def _require_arguments(
    paths: list[Path],
    out: Path | None,
    methods: "Sequence[str]",
    model: str,
    class_name: str | None,
) -> None:
    from glasshouse.cli import early_checks

    early_checks.require_images(paths)
    early_checks.require_folder_free_of_files(out)
    require_named_methods(methods)
    early_checks.require_class(model, class_name)


def _write_mistakes(named: NamedModel, out: Path | None, data_dir: Path | None, json: bool) -> None:
    from glasshouse.workflow.use.run_mistakes import explain_run_mistakes

    page = explain_run_mistakes(
        Path(str(named.model)),
        out,
        data_dir=data_dir,
        offline=named.offline,
        classifier=classifier_named(named),
    )
    if json:
        print_json({"page": str(page)})
    else:
        print(page)


def _print_layers(classifier: "Classifier", json: bool) -> None:
    import numpy as np

    from glasshouse.explanation.graph.layer_choice import layers

    size = (classifier.preprocessing.height, classifier.preprocessing.width)
    found = layers(classifier, np.zeros((3, *size), dtype=np.uint8))
    if json:
        print_json(
            [{"name": i.name, "kind": i.kind, "shape": i.shape, "calls": i.calls} for i in found]
        )
        return
    for info in found:
        shape = "x".join(str(size) for size in info.shape)
        calls = f"  runs {info.calls} times" if info.calls > 1 else ""
        print(f"{info.name:32} {shape:>16}  {info.kind}{calls}")


def _print_answers(answers: "Iterator[Explained]", json: bool) -> None:
    from glasshouse.workflow.use.explain_files import as_json

    if json:
        print_json([as_json(answer) for answer in answers])
        return
    for answer in answers:
        print("\n".join(_lines(answer)), flush=True)


def _lines(answer: "Explained") -> "Iterator[str]":
    from glasshouse.models.prediction_sets import set_line

    if answer.is_multi_label:
        yield f"{answer.image}: {answer.predicted}"
    else:
        yield f"{answer.image}: {answer.predicted} ({percentage(answer.probability)})"
    if answer.explained != answer.predicted or answer.is_multi_label:
        yield f"  explained: {answer.explained} ({percentage(answer.explained_probability)})"
    if answer.sets is not None:
        yield f"  {set_line(answer.sets, 0)}"
    if answer.resemblance is not None:
        yield from (f"  {line}" for line in answer.resemblance.lines(is_answered=True))
    yield from (f"  {line}" for line in _lines_of_maps(answer.explanations))
    first, *others = [path for path in answer.files if path.suffix == ".png"]
    yield f"  {first}"
    if others:
        yield f"  next to it: {', '.join(path.name for path in others)}"


def _lines_of_maps(explanations: "Sequence[Explanation]") -> "Iterator[str]":
    """What hiding the marked area does, then a line per map; the numbers are in page.json."""
    from glasshouse.explanation.draw.sheet_words import line_of_checks, warnings_of
    from glasshouse.explanation.trust.hiding import HIDING

    for each in explanations:
        yield from (f"{c.words} ({each.method})" for c in each.checks if c.name == HIDING)
    width = max((len(each.method) for each in explanations), default=0)
    for each in explanations:
        yield f"{each.method:{width}}  {line_of_checks(each)}"
    yield from warnings_of(explanations)
