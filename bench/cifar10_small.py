"""Train the bundled model `cifar10-small`, measure it once, and write it into the package's assets.

Two runs of the recipe `fast` on CIFAR-10: one leaves the validation images out, for the
temperature and the prediction sets alone; the other learns from all 50,000. The test images are
seen once, by the weights as they are stored, in half precision. Needs GLASSHOUSE_DATA; a stopped
script goes on where it was.
With --sets, only the conformity scores of the bundled model are made, from the first run.
Run: python bench/cifar10_small.py [FOLDER for the two runs] [--sets]
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from contest import judge, machine

from glasshouse.evaluation.calibration import fit_temperature
from glasshouse.evaluation.evaluation import Evaluation, evaluate
from glasshouse.memory import keep_freed_memory
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import MODEL_FILE, Classifier, save_classifier
from glasshouse.models.conformity_file import CONFORMITY_FILE, conformity_bytes
from glasshouse.models.known_names import ASSETS
from glasshouse.models.predict import Predictions, predict
from glasshouse.recipe import load_recipe
from glasshouse.storage import read_json, sha256_of_bytes, write_bytes, write_json, write_text
from glasshouse.training.loop import Step
from glasshouse.training.state import final_net
from glasshouse.training.watch import epoch_line
from glasshouse.workflow.train.conclusion import with_prediction_sets
from glasshouse.workflow.train.experiment import (
    Experiment,
    TrainRequest,
    fit_experiment,
    open_experiment,
)

NAME = "cifar10-small"
CARD = """# {name}

A small CNN for the ten classes of CIFAR-10, trained by this project with its recipe `fast`.

| | |
|--|--|
| training images | all 50,000 of CIFAR-10 (Krizhevsky 2009), no others |
| test accuracy | {accuracy} on the 10,000 test images, seen once, by these weights |
| calibration error (ECE) | {ece:.2%} at temperature {temperature:.3f} |
| recipe | `fast`, seed {seed}, {epochs} epochs, batch size {batch} |
| time | {seconds:,.0f} s of training on {machine}, {threads} threads, {precision} |
| weights | {parameters:,} trained parameters, in half precision |
| made by | `python bench/cifar10_small.py` |

Predictions are made of the mean logits of the image and its mirror image. The temperature comes
from a second run of the same recipe, which left 10 % of the training images out and was fitted to
those, as were the prediction sets. It knows airplanes, automobiles, birds, cats, deer, dogs, frogs,
horses, ships and trucks at 32x32 pixels, and calls anything else one of them. MIT licence, like the
rest of the project.

| class | precision | recall |
|--|--|--|
{classes}
"""


def trained(folder: Path, *overrides: str) -> tuple[Experiment, Classifier]:
    """The recipe trained to its end in this folder, without a look at the test images."""
    recipe = load_recipe("fast", [*overrides])
    request = TrainRequest("cifar10", recipe, folder, resume=True, command="bench/cifar10_small.py")
    experiment = open_experiment(request)
    for record in fit_experiment(experiment):
        if not isinstance(record, Step):
            print(f"{folder.name}  {epoch_line(record, recipe.train.epochs)}", flush=True)
    return experiment, replace(experiment.classifier, net=final_net(experiment.state))


def with_sets(classifier: Classifier, held_out: Predictions) -> Classifier:
    """The classifier with the scores of these images, at its temperature."""
    source = f"{len(held_out):,} training images that a second run of the same recipe left out"
    return with_prediction_sets(classifier, held_out, source)


def write_sets(held_out: Predictions) -> None:
    """Add the scores to the bundled model, whose other files stay as they are."""
    folder = ASSETS / NAME
    bundled = with_sets(load_bundled(NAME), held_out)
    assert bundled.conformity is not None
    content = conformity_bytes(bundled.conformity)
    described = {"file": CONFORMITY_FILE, "sha256": sha256_of_bytes(content)}
    record = read_json(folder / MODEL_FILE)
    versions = record.pop("versions")
    write_bytes(folder / CONFORMITY_FILE, content)
    write_json(folder / MODEL_FILE, {**record, "conformity": described, "versions": versions})


def card(experiment: Experiment, evaluation: Evaluation, bundled: Classifier) -> str:
    """What stands beside the weights."""
    environment = json.loads((experiment.folder / "environment.json").read_text())
    settings, accuracy = experiment.settings, evaluation.accuracy
    rows = [f"| {r.name} | {r.precision:.1%} | {r.recall.value:.1%} |"
            for r in evaluation.per_class if r.precision is not None and r.recall]  # fmt: skip
    return CARD.format(
        name=NAME,
        accuracy=f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}, 95 %)",
        ece=evaluation.after.ece,
        temperature=bundled.temperature,
        seed=settings.seed,
        epochs=settings.epochs,
        batch=settings.batch_size,
        seconds=sum(epoch.seconds for epoch in experiment.state.history),
        machine=environment["processor"],
        threads=environment["threads"],
        precision=environment["precision"],
        parameters=sum(p.numel() for p in bundled.net.parameters()),
        classes="\n".join(rows),
    )


def main() -> None:
    keep_freed_memory()
    print(machine())
    named = [argument for argument in sys.argv[1:] if argument != "--sets"]
    runs = Path(named[0] if named else f"runs/{NAME}")
    held_out, classifier = trained(runs / "held-out")
    answers = predict(classifier, held_out.splits.validation)
    if "--sets" in sys.argv:
        write_sets(answers)
        return
    temperature = fit_temperature(answers)
    experiment, classifier = trained(runs / "everything", "data.train_on_validation=true")
    folder = ASSETS / NAME
    calibrated = with_sets(replace(classifier, temperature=temperature), answers)
    save_classifier(calibrated, folder, half=True)
    bundled = load_bundled(NAME)
    evaluation = evaluate(predict(bundled, experiment.splits.test))
    write_text(folder / "card.md", card(experiment, evaluation, bundled))
    print((folder / "card.md").read_text())
    judge("test accuracy", 100 * evaluation.accuracy.value, 93.5)
    size = (folder / "model.safetensors").stat().st_size
    judge("megabytes", size / 1e6, 8.0, at_least=False)


if __name__ == "__main__":
    main()
