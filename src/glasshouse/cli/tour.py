"""`glasshouse tour`: what a network sees, when to believe the explanation, and how to train one."""

import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from glasshouse.wording import percentage, pluralize

if TYPE_CHECKING:
    from glasshouse.explanation.nouns import Explanation
    from glasshouse.workflow.use.example_pair import Example
    from glasshouse.workflow.use.explain_files import Explained

MODEL = "cifar10-small"
RECIPE = "small-residual"
SOURCE = "shapes"
EPOCHS = 4
EXAMPLES = "right-and-wrong.png"
# Integrated gradients divide the score among the pixels, so that shares of it mean something.
SHARED: Final = "integrated-gradients"
# The eyes and the nose in the 32 x 32 pixels that the network sees: left, top, right, bottom.
_FACE = ((6, 9, 14, 16), (22, 11, 29, 18), (16, 23, 24, 29))
_REASONS = {
    "empty": "the map is empty",
    "faithfulness": "hiding the marked pixels changes the answer no more than hiding random ones",
    "random head": "the map hardly changes when the last layer is random",
    "edges": "the map is little more than an edge detector",
}
_COARSE = "the map has too few cells to say where"


def tour(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the tour. Default: a new folder for temporary files."),
    ] = None,
) -> None:
    """Explain a photo, train a classifier, and explain its best and worst answers; offline."""
    from glasshouse.cli import early_checks

    early_checks.require_folder_free_of_files(out)
    folder = out or Path(tempfile.mkdtemp(prefix="glasshouse-tour-"))
    explained = _show_photo(folder / "photo")
    _show_maps(explained)
    run = folder / "run"
    _show_answers(run, _train(run))
    _show_next_steps(run)


def _show_photo(folder: Path) -> "Explained":
    """The first stop: what the bundled network predicts, with its explanation for the second."""
    from glasshouse.models.known_names import EXAMPLE_PHOTO
    from glasshouse.models.predict import logits_of, most_probable, read_images, softmax
    from glasshouse.workflow.use.explain_files import ExplainRequest, explain_images
    from glasshouse.workflow.use.model_names import classifier_by_name

    _heading(1, "A photo that the network has never seen")
    _tell(
        "Glasshouse comes with a photo of a cat (by Stéfan van der Walt, public domain) and with\n"
        f"a small network, {MODEL}. It knows the ten classes of CIFAR-10 and sees the photo\n"
        "at 32 x 32 pixels. What does it say?"
    )
    _command("glasshouse", "predict", MODEL, EXAMPLE_PHOTO, "--top", "3")
    classifier = classifier_by_name(MODEL, offline=True)
    pixels = read_images([EXAMPLE_PHOTO], classifier)
    (shares,) = softmax(logits_of(classifier, pixels).astype(float) / classifier.temperature)
    for answer in most_probable(shares, classifier.class_names, 3):
        _tell(f"    {percentage(float(answer['probability']), 2):>8}  {answer['class']}")

    _heading(2, "Why? Which explanation can you trust?")
    _tell(
        "Many methods draw a map of the pixels behind an answer. The maps differ, and some would\n"
        "look the same whatever the network had learned. So Glasshouse tests every map: does it\n"
        "follow from what the network learned, and does the answer depend on the marked pixels?"
    )
    _command("glasshouse", "explain", MODEL, EXAMPLE_PHOTO, "--out", folder)
    (explained,) = explain_images(
        classifier, pixels, [str(EXAMPLE_PHOTO)], ExplainRequest(folder, model=MODEL)
    )
    return explained


def _show_maps(explained: "Explained") -> None:
    trusted = [each for each in explained.explanations if _problem(each) is None]
    for problem in dict.fromkeys(_problem(each) for each in explained.explanations):
        names = [each.method for each in explained.explanations if _problem(each) == problem]
        if problem is not None:
            _tell(f"    {problem}:\n        {', '.join(names)}")
    if not trusted:
        _tell("\nNo map passed every check, so none should be believed without a second look.")
        return
    names = [each.method for each in trusted]
    passed = "One map" if len(names) == 1 else f"{len(names)} maps"
    _tell(f"    passed every check:\n        {', '.join(names)}\n")
    best = next((each for each in trusted if each.method == SHARED), trusted[0])
    share, area = _share_of_face(best)
    where = "it" if len(names) == 1 else f"that of {best.method}"
    _tell(
        f"{passed} of {len(explained.explanations)} passed: {', '.join(names)}.\n"
        f"In {where}, the eyes and the nose cover {percentage(area, 0)} of the image and hold\n"
        f"{percentage(share, 0)} of the evidence for {explained.explained}.\n"
    )
    sheet = next(path for path in explained.files if path.name == "sheet.png")
    _tell(f"All maps with their checks:\n    {sheet}")


def _problem(explanation: "Explanation") -> str | None:
    """The first reason to doubt a map; None for one that passed every check."""
    from glasshouse.explanation.trust.lead import doubts_of

    doubts = doubts_of(explanation)
    if doubts:
        return _REASONS.get(doubts[0], doubts[0])
    # "Cannot be judged: the reason (its numbers)."
    reasons = [check.words.split(": ", 1)[1] for check in explanation.checks if check.is_open]
    if reasons:
        return reasons[0].split(" (")[0].rstrip(".")
    return _COARSE if explanation.warnings else None


def _share_of_face(explanation: "Explanation") -> tuple[float, float]:
    """The share of the map's evidence on the eyes and nose of the photo, and that of the image."""
    import numpy as np

    from glasshouse.explanation.maps.enlargement import shown

    # What speaks against the class is not subtracted: where both nearly cancel, a share of the rest
    # could be anything.
    values = shown(explanation)[0].clip(min=0)
    face = np.zeros(values.shape, dtype=bool)
    for left, top, right, bottom in _FACE:
        face[top:bottom, left:right] = True
    return float(values[face].sum() / values.sum()), float(face.mean())


def _train(run: Path) -> "list[Example]":
    """The third stop: train on the generated shapes, and explain a right and a wrong answer."""
    from glasshouse.cli.experiments import run_to_the_end
    from glasshouse.data.sources import load_splits
    from glasshouse.explanation.draw.canvas import to_png
    from glasshouse.recipe import load_recipe
    from glasshouse.storage import write_bytes
    from glasshouse.workflow.train.experiment import TrainRequest
    from glasshouse.workflow.use.example_pair import (
        draw_examples,
        explain_example,
        most_confident,
    )

    recipe = load_recipe(RECIPE, [f"train.epochs={EPOCHS}"])
    _heading(3, "Train a network")
    _tell(
        f"The images of `{SOURCE}` are generated: ten shapes and textures in front of clutter.\n"
        "Whoever generates an image knows which pixels belong to the object, so here the maps can\n"
        f"be compared with the facts. Training takes {pluralize(recipe.train.epochs, 'epoch')}, "
        "less than a minute on two cores."
    )
    options = ("--recipe", RECIPE, "--epochs", str(EPOCHS), "--out", run)
    command = _command("glasshouse", "train", SOURCE, *options)
    request = TrainRequest(SOURCE, recipe, run, offline=True, command=command)
    result = run_to_the_end(request)
    accuracy = str(result.evaluation.accuracy)
    _tell(f"Test accuracy {accuracy}, 95 % confidence interval.")
    test = load_splits(SOURCE, recipe.data, offline=True).test
    rows = [row for row in most_confident(result.predictions) if row is not None]
    examples = [
        explain_example(result.classifier, test, result.predictions, row, SHARED) for row in rows
    ]
    write_bytes(run / EXAMPLES, to_png(draw_examples(examples)))
    return examples


def _show_answers(run: Path, examples: "Sequence[Example]") -> None:
    _heading(4, "Its most confident right answer, and its most confident mistake")
    for kind in (True, False):
        _tell(_sentences(kind, next((each for each in examples if each.is_right == kind), None)))
    _tell(
        "Image, object and map next to each other; red pixels speak for the answer, blue ones\n"
        f"against it:\n    {run / EXAMPLES}"
    )


def _sentences(is_right: bool, example: "Example | None") -> str:
    kind = "Right" if is_right else "Wrong"
    if example is None:
        return f"{kind}: no answer on the test images was {kind.lower()}.\n"
    share = "over 99.9 %" if example.probability > 0.9995 else percentage(example.probability, 1)
    return (
        f"{kind}: {example.id} is of the class {example.true}, the network says "
        f"{example.predicted} ({share}).\n"
        f"    {percentage(example.on_object, 0)} of the evidence lies on the object, which covers "
        f"{percentage(example.area, 0)} of the image.\n    {_verdict(example)}\n"
    )


def _verdict(example: "Example") -> str:
    from glasshouse.explanation.trust.lead import doubts_of

    on_object = example.on_object >= 0.5
    if example.is_right:
        reason = "for the right reason" if on_object else "but not because of the object alone"
        reason = f"it was right {reason}"
    else:
        reason = "looked at the object and mistook it" if on_object else "was misled by the clutter"
        reason = f"it {reason}"
    problem = _problem(example.explanation)
    if problem is None:
        return f"So {reason}."
    doubt = "failed a check" if doubts_of(example.explanation) else "is not beyond doubt"
    return f"So perhaps {reason}; but this map {doubt}, because\n    {problem}."


def _show_next_steps(run: Path) -> None:
    _heading(5, "The report, and your own images")
    _tell(
        f"Everything about this run, on one page that opens offline:\n    {run / 'report.html'}\n"
        "\n"
        "For your own images, make a folder `photos` with one subfolder of images per class, such\n"
        "as photos/cats and photos/dogs. Then check them, train, and look at the mistakes:\n"
    )
    for command in (
        "check photos",
        "train photos --out runs/photos",
        "explain runs/photos --errors",
        "ui",
    ):
        _tell(f"    glasshouse {command}")
    _tell("\nThe last command opens the workbench, which does all of this in the browser.")
    _tell_how_to_activate()


def _tell_how_to_activate() -> None:
    """Without this, a command pasted after `make tour` would not be found."""
    script = Path(sys.executable).parent / "activate"
    if shutil.which("glasshouse") is None and script.is_file():
        _tell(
            "To paste any of these commands into a new terminal, activate the environment first:\n"
            f"\n    source {shlex.quote(str(script))}"
        )


def _heading(number: int, title: str) -> None:
    line = f"{number}  {title}"
    _tell(f"\n{line}\n{'-' * len(line)}")


def _command(*words: "str | Path") -> str:
    """Show a command that can be pasted, and return it."""
    command = shlex.join(map(str, words))
    _tell(f"\n    {command}\n")
    return command


def _tell(text: str) -> None:
    # Flushed, so that the story keeps its order with the progress on standard error.
    print(text, flush=True)
