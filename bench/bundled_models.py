"""Train a bundled model, measure it once, and write it into the package's assets.

One run on CIFAR-10, which leaves 2,500 of the 50,000 training images out: the temperature and the
prediction sets come from them. `cifar10-small` is then trained on with pixel dropout, toward its
own answers, and the mean of its last weights is taken: its maps then mark more of what it relies
on, at no cost of accuracy. The test images are seen once, by the weights as they are stored, in
half precision: the accuracy, and on the first 500 of them, whether the prediction relies more on
the pixels that Grad-CAM marks than on random ones. Needs GLASSHOUSE_DATA; a stopped script goes on
with the part that it was at.
Run: python bench/bundled_models.py cifar10-small|cifar10-tiny [FOLDER of the run]
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from contest import judge, machine
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from glasshouse.data.batches import batches, prepare_images
from glasshouse.data.images import ImageSet, take
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import Evaluation, evaluate
from glasshouse.evaluation.intervals import Interval, wilson
from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.trust.faithfulness import faithfulness
from glasshouse.memory import keep_freed_memory
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import (
    MODEL_FILE,
    Classifier,
    load_classifier,
    save_classifier,
    scale,
)
from glasshouse.models.known_names import ASSETS
from glasshouse.models.predict import predict, predict_logits
from glasshouse.recipe import load_recipe
from glasshouse.rng import derive
from glasshouse.storage import write_text
from glasshouse.training.fit import train_classifier
from glasshouse.training.loop import Step
from glasshouse.training.operations import features_flop, training_flop
from glasshouse.training.precision import choose_precision
from glasshouse.training.state import final_net
from glasshouse.training.watch import epoch_line
from glasshouse.workflow.train.conclusion import with_prediction_sets
from glasshouse.workflow.train.experiment import (
    Experiment,
    TrainRequest,
    fit_experiment,
    open_experiment,
)

EXPLAINED, AT_ONCE = 500, 50


@dataclass(frozen=True)
class Stage:
    """Training on from what an earlier stage has left, toward the mean answers of some of them.

    share: of the answers in the target of each image; the rest is its label, smoothed.
    """

    name: str
    start: str
    teachers: tuple[str, ...]
    epochs: int
    pixel_dropout: float
    share: float


@dataclass(frozen=True)
class Aim:
    """What a bundled model is to reach: test accuracy in percent, size in megabytes.

    recipe: of its first stage. stages: the further ones. mean_of: those whose mean weights are the
    model; without any, it is what the first stage leaves.
    """

    recipe: str
    accuracy: float
    megabytes: float
    stages: tuple[Stage, ...] = ()
    mean_of: tuple[str, ...] = ()


FIRST = "first"
AIMS = {
    "cifar10-small": Aim(
        "fine",
        94.6,
        8.0,
        (
            Stage("second", FIRST, (FIRST,), epochs=12, pixel_dropout=0.04, share=0.6),
            Stage("aside", FIRST, (FIRST,), epochs=10, pixel_dropout=0.08, share=0.6),
            Stage("third", "second", (FIRST, "second", "aside"), 10, 0.06, share=0.7),
        ),
        ("second", "third"),
    ),
    "cifar10-tiny": Aim("tiny", 91.0, 0.5),
}
# Of the stages after the first, whose weights are trained already: half of the recipe's.
PEAK_LR = 1.0
# Batches, and images of each, that the statistics of mean weights come from.
STATISTICS = 8, 500
CARD = """# {name}

A CNN for the ten classes of CIFAR-10, trained by this project with its recipe `{recipe}`{further}.

| | |
|--|--|
| training images | {trained:,} of the 50,000 of CIFAR-10 (Krizhevsky 2009), no others |
| test accuracy | {accuracy} on the 10,000 test images, by which nothing was chosen |
| calibration error (ECE) | {ece:.2%} at temperature {temperature:.3f} |
| Grad-CAM | {cells} cells, above random pixels on {faithful} of {explained} test images |
| recipe | `{recipe}`, seed {seed}, {epochs} epochs, batch size {batch} |
| training | {petaflop:.2f} PFLOP in {precision}, all stages together |
| weights | {parameters:,} trained parameters, in half precision |
| made by | `python bench/bundled_models.py {name}` |

A prediction comes from the mean logits of {views}.
The temperature and the prediction sets come from the {held_out:,} training images that were left
out. It knows airplanes, automobiles, birds, cats, deer, dogs, frogs, horses, ships and trucks at
32x32 pixels, and calls anything else one of them. MIT licence, like the rest of the project.

| class | precision | recall |
|--|--|--|
{classes}
"""


def begun(aim: Aim, folder: Path) -> Experiment:
    """The first stage, without a look at the test images."""
    recipe = load_recipe(aim.recipe, ["data.validation_fraction=0.05"])
    request = TrainRequest(
        "cifar10", recipe, folder, resume=True, command="bench/bundled_models.py"
    )
    return open_experiment(request)


def first_stage(experiment: Experiment) -> Classifier:
    """The recipe trained to its end."""
    epochs = experiment.settings.epochs
    for record in fit_experiment(experiment):
        if not isinstance(record, Step):
            print(f"{experiment.folder.name}  {epoch_line(record, epochs)}", flush=True)
    return replace(experiment.classifier, net=final_net(experiment.state))


def further_stage(stage: Stage, experiment: Experiment, known: dict[str, Classifier]) -> Classifier:
    """A model of an earlier stage trained on; known: what the earlier stages have left."""
    images, settings = experiment.splits.train, experiment.settings
    recipe = load_recipe(
        experiment.request.recipe.name,
        [f"train.epochs={stage.epochs}", f"train.lr={PEAK_LR}", "train.label_smoothing=0",
         f"augment.pixel_dropout={stage.pixel_dropout}"],
    )  # fmt: skip
    answers = torch.stack([training_logits(known[name], images) for name in stage.teachers])
    soft = answers.mean(dim=0).softmax(dim=1)
    sharp = torch.eye(len(images.class_names))[torch.from_numpy(images.labels)]
    smoothing = settings.label_smoothing
    smooth = (1 - smoothing) * sharp + smoothing / len(images.class_names)
    targets = stage.share * soft + (1 - stage.share) * smooth
    data = prepare_images(images, torch.device("cpu"))

    def source(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        print(f"{stage.name}  epoch {epoch + 1} of {stage.epochs}", flush=True)
        for batch in batches(
            data, recipe.augment, batch_size=settings.batch_size, seed=settings.seed, epoch=epoch
        ):
            yield batch.images, targets[batch.positions]

    start = replace(known[stage.start], conformity=None, temperature=1.0)
    trained, _ = train_classifier(
        start, experiment.splits, recipe.train, batches=source, loss=cross_entropy, progress=False
    )
    return replace(trained, mirror=start.mirror, shifts=start.shifts)


def averaged(known: Sequence[Classifier], experiment: Experiment) -> Classifier:
    """The mean of some models' weights, whose normalisations get statistics of their own."""
    states = [each.net.state_dict() for each in known]
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        for name in states[0]
    }
    net = copy.deepcopy(known[0].net)
    net.load_state_dict(mean)
    count, size = STATISTICS
    images = batches(
        prepare_images(experiment.splits.train, torch.device("cpu")),
        experiment.request.recipe.augment, batch_size=size, seed=1, epoch=0,
    )  # fmt: skip
    inputs = (scale(batch.images, known[0].preprocessing) for batch in islice(images, count))
    update_bn(inputs, net)
    return replace(known[0], net=net.eval())


def training_logits(classifier: Classifier, images: ImageSet) -> Tensor:
    """The mean logits of each training image and its mirror image."""
    views = replace(classifier, mirror=True, shifts=False).views
    return predict_logits(
        classifier.net, classifier.preprocessing, images.pixels, views=views,
        precision=torch.bfloat16,
    )  # fmt: skip


def stored(folder: Path, make: Callable[[], Classifier]) -> Classifier:
    """What a stage has left in a folder, in half precision; made where it is not there."""
    if not (folder / MODEL_FILE).exists():
        save_classifier(make(), folder, half=True)
    return load_classifier(folder)


def more_faithful_than_random(classifier: Classifier, images: ImageSet) -> tuple[Interval, str]:
    """The share of these images on which Grad-CAM is above random pixels, and its cells."""
    generator = np.random.default_rng(derive(0, "random order"))
    above, cells = 0, ""
    for first in range(0, len(images), AT_ONCE):
        some = take(images, np.arange(first, min(first + AT_ONCE, len(images)))).pixels
        (cam,) = explain(classifier, some, methods="grad-cam")
        height, width = cam.maps.shape[-2:]
        cells = f"{height}x{width}"
        random_order = generator.random((len(some), *cam.images.shape[2:]))
        own, rival = faithfulness(classifier, cam.images, [shown(cam), random_order], cam.targets)
        gaps = [each.insertion - each.deletion for each in (own, rival)]
        above += int((gaps[0] > gaps[1]).sum())
    return wilson(above, len(images)), cells


def card(
    name: str, experiment: Experiment, evaluation: Evaluation, cam: tuple[Interval, str]
) -> str:
    """What stands beside the weights."""
    settings, accuracy, bundled = experiment.settings, evaluation.accuracy, load_bundled(name)
    rows = [f"| {r.name} | {r.precision:.1%} | {r.recall.value:.1%} |"
            for r in evaluation.per_class if r.precision is not None and r.recall]  # fmt: skip
    precision = choose_precision(settings, torch.device("cpu"))
    return CARD.format(
        name=name,
        recipe=AIMS[name].recipe,
        further=described(AIMS[name]),
        trained=len(experiment.splits.train),
        held_out=len(experiment.splits.validation),
        accuracy=f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}, 95 %)",
        ece=evaluation.after.ece,
        temperature=bundled.temperature,
        cells=cam[1],
        faithful=f"{cam[0].value:.1%} ({cam[0].low:.1%} to {cam[0].high:.1%})",
        explained=EXPLAINED,
        seed=settings.seed,
        epochs=settings.epochs,
        batch=settings.batch_size,
        petaflop=all_flop(experiment, AIMS[name].stages) / 1e15,
        views=bundled.views.words,
        precision=str(precision).removeprefix("torch."),
        parameters=sum(p.numel() for p in bundled.net.parameters()),
        classes="\n".join(rows),
    )


def described(aim: Aim) -> str:
    """What followed the recipe, in the first sentence of a card."""
    if not aim.stages:
        return ""
    epochs = sum(stage.epochs for stage in aim.stages if stage.name in aim.mean_of)
    most = max(stage.pixel_dropout for stage in aim.stages if stage.name in aim.mean_of)
    return (
        f",\nthen for {epochs} epochs with up to {most:.0%} of the pixels left out in half of the "
        "images, toward the answers that\nit and earlier versions of it gave to them; these are "
        f"the mean weights of {len(aim.mean_of)} such versions"
    )


def all_flop(experiment: Experiment, stages: Sequence[Stage]) -> int:
    """Operations of all stages, those of the answers that they learned from included."""
    epochs = experiment.settings.epochs + sum(stage.epochs for stage in stages)
    trained = training_flop(
        replace(experiment.state, epoch=epochs),
        experiment.settings.model_copy(update={"epochs": epochs}),
        experiment.request.recipe.transfer,
        experiment.splits.train,
    )
    views = 2 * sum(len(stage.teachers) for stage in stages)
    asked = features_flop(experiment.state.net, experiment.splits.train, views)
    assert trained is not None and asked is not None
    return trained + asked


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=AIMS)
    parser.add_argument("folder", nargs="?", type=Path, help="of the run; unset: runs/NAME")
    options = parser.parse_args()
    keep_freed_memory()
    print(machine())
    aim, place = AIMS[options.name], options.folder or Path("runs") / options.name
    experiment = begun(aim, place / "run")
    last = stored(place / FIRST, partial(first_stage, experiment))
    known = {FIRST: last}
    for stage in aim.stages:
        last = stored(place / stage.name, partial(further_stage, stage, experiment, known))
        known[stage.name] = last
    if aim.mean_of:
        chosen = [known[name] for name in aim.mean_of]
        last = stored(place / "mean", partial(averaged, chosen, experiment))
    left_out = predict(last, experiment.splits.validation)
    source = f"{len(left_out):,} training images that were left out"
    calibrated = replace(last, temperature=fit_temperature(left_out))
    folder = ASSETS / options.name
    save_classifier(with_prediction_sets(calibrated, left_out, source), folder, half=True)
    bundled, test = load_bundled(options.name), experiment.splits.test
    evaluation = evaluate(predict(bundled, test))
    cam = more_faithful_than_random(bundled, take(test, np.arange(EXPLAINED)))
    write_text(folder / "card.md", card(options.name, experiment, evaluation, cam))
    print((folder / "card.md").read_text())
    size = sum(path.stat().st_size for path in folder.iterdir())
    held = [
        judge("test accuracy", 100 * evaluation.accuracy.value, aim.accuracy),
        judge("explanations above random pixels, %", 100 * cam[0].value, 90),
        judge("megabytes, everything together", size / 1e6, aim.megabytes, at_least=False),
    ]
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
