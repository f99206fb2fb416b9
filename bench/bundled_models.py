"""Train a bundled model, measure it once, and write it into the package's assets.

One run on CIFAR-10, which leaves 2,500 of the 50,000 training images out: the temperature and the
prediction sets come from them. The test images are seen once, by the weights as they are stored,
in half precision: the accuracy, and on the first 500 of them, whether the prediction relies more on
the pixels that Grad-CAM marks than on random ones. Needs GLASSHOUSE_DATA; a stopped script goes on
where it was.
Run: python bench/bundled_models.py cifar10-small|cifar10-tiny [FOLDER of the run]
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from contest import judge, machine

from glasshouse.data.images import ImageSet, take
from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import Evaluation, evaluate
from glasshouse.evaluation.intervals import Interval, wilson
from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.trust.faithfulness import faithfulness
from glasshouse.memory import keep_freed_memory
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier, save_classifier
from glasshouse.models.known_names import ASSETS
from glasshouse.models.predict import predict
from glasshouse.recipe import load_recipe
from glasshouse.rng import derive
from glasshouse.storage import write_text
from glasshouse.training.loop import Step
from glasshouse.training.operations import training_flop
from glasshouse.training.state import final_net
from glasshouse.training.watch import epoch_line
from glasshouse.wording import pluralize
from glasshouse.workflow.train.conclusion import with_prediction_sets
from glasshouse.workflow.train.experiment import (
    Experiment,
    TrainRequest,
    fit_experiment,
    open_experiment,
)

EXPLAINED, AT_ONCE = 500, 50


@dataclass(frozen=True)
class Aim:
    """What a bundled model is to reach: test accuracy in percent, size in megabytes."""

    recipe: str
    accuracy: float
    megabytes: float


AIMS = {"cifar10-small": Aim("fine", 94.6, 8.0), "cifar10-tiny": Aim("tiny", 91.0, 0.5)}
CARD = """# {name}

A CNN for the ten classes of CIFAR-10, trained by this project with its recipe `{recipe}`.

| | |
|--|--|
| training images | {trained:,} of the 50,000 of CIFAR-10 (Krizhevsky 2009), no others |
| test accuracy | {accuracy} on the 10,000 test images, by which nothing was chosen |
| calibration error (ECE) | {ece:.2%} at temperature {temperature:.3f} |
| Grad-CAM | {cells} cells, above random pixels on {faithful} of {explained} test images |
| recipe | `{recipe}`, seed {seed}, {epochs} epochs, batch size {batch} |
| training | {petaflop:.2f} PFLOP on {machine}, {threads}, {precision} |
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


def trained(aim: Aim, folder: Path) -> tuple[Experiment, Classifier]:
    """The recipe trained to its end in this folder, without a look at the test images."""
    recipe = load_recipe(aim.recipe, ["data.validation_fraction=0.05"])
    request = TrainRequest(
        "cifar10", recipe, folder, resume=True, command="bench/bundled_models.py"
    )
    experiment = open_experiment(request)
    for record in fit_experiment(experiment):
        if not isinstance(record, Step):
            print(f"{folder.name}  {epoch_line(record, recipe.train.epochs)}", flush=True)
    return experiment, replace(experiment.classifier, net=final_net(experiment.state))


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
    environment = json.loads((experiment.folder / "environment.json").read_text())
    settings, accuracy, bundled = experiment.settings, evaluation.accuracy, load_bundled(name)
    transfer = experiment.request.recipe.transfer
    flop = training_flop(experiment.state, settings, transfer, experiment.splits.train)
    assert flop is not None
    rows = [f"| {r.name} | {r.precision:.1%} | {r.recall.value:.1%} |"
            for r in evaluation.per_class if r.precision is not None and r.recall]  # fmt: skip
    return CARD.format(
        name=name,
        recipe=AIMS[name].recipe,
        trained=len(experiment.splits.train),
        held_out=len(experiment.splits.validation),
        accuracy=f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}, 95 %)",
        ece=evaluation.after.ece,
        temperature=bundled.temperature,
        cells=cam[1],
        faithful=f"{cam[0].value:.1%}",
        explained=EXPLAINED,
        seed=settings.seed,
        epochs=settings.epochs,
        batch=settings.batch_size,
        petaflop=flop / 1e15,
        views=bundled.views.words,
        machine=environment["processor"],
        threads=pluralize(environment["threads"], "thread"),
        precision=environment["precision"],
        parameters=sum(p.numel() for p in bundled.net.parameters()),
        classes="\n".join(rows),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=AIMS)
    parser.add_argument("folder", nargs="?", type=Path, help="of the run; unset: runs/NAME")
    options = parser.parse_args()
    keep_freed_memory()
    print(machine())
    aim = AIMS[options.name]
    experiment, classifier = trained(aim, options.folder or Path("runs") / options.name)
    left_out = predict(classifier, experiment.splits.validation)
    source = f"{len(left_out):,} training images that were left out"
    calibrated = replace(classifier, temperature=fit_temperature(left_out))
    folder = ASSETS / options.name
    save_classifier(with_prediction_sets(calibrated, left_out, source), folder, half=True)
    bundled, test = load_bundled(options.name), experiment.splits.test
    evaluation = evaluate(predict(bundled, test))
    cam = more_faithful_than_random(bundled, take(test, np.arange(EXPLAINED)))
    write_text(folder / "card.md", card(options.name, experiment, evaluation, cam))
    print((folder / "card.md").read_text())
    judge("test accuracy", 100 * evaluation.accuracy.value, aim.accuracy)
    judge("explanations above random pixels, %", 100 * cam[0].value, 90)
    size = sum(path.stat().st_size for path in folder.iterdir())
    judge("megabytes, everything together", size / 1e6, aim.megabytes, at_least=False)


if __name__ == "__main__":
    main()
