"""From a recipe with a pretrained network to a classifier of the right size, with notes on why."""

from dataclasses import replace
from pathlib import Path

from glasshouse.data.images import Splits
from glasshouse.data.sources import has_own_size
from glasshouse.models.classifier import Classifier
from glasshouse.progress import Progress
from glasshouse.settings import DataSettings, PretrainedSettings, Recipe
from glasshouse.training.adapting import Adapted, adapt, own_size
from glasshouse.training.fit import untrained_classifier
from glasshouse.training.transfer import describe_stages
from glasshouse.workflow.train.input_probe import probe
from glasshouse.workflow.train.own_network import own_untrained
from glasshouse.workflow.train.request import TrainRequest


def untrained(request: TrainRequest, splits: Splits) -> Classifier:
    """The untrained classifier where the network is not a pretrained one."""
    recipe = request.recipe
    if recipe.model.code is not None:
        return own_untrained(request, splits)
    return untrained_classifier(recipe.model, splits, seed=recipe.train.seed)


def pretrained_of(recipe: Recipe) -> PretrainedSettings:
    """The settings of the pretrained network in a recipe that has one."""
    assert recipe.model.pretrained is not None
    return recipe.model.pretrained


def data_settings(source: str | Path, recipe: Recipe) -> DataSettings:
    """How a source is read for the network: files at its input size, small images as they are."""
    if recipe.data.image_size is not None or has_own_size(source):
        return recipe.data
    settings = pretrained_of(recipe)
    size = settings.input_size or own_size(settings)
    return recipe.data.model_copy(update={"image_size": size})


def adapted_classifier(
    recipe: Recipe, splits: Splits, *, offline: bool = False, progress: Progress | None = None
) -> Adapted:
    """The pretrained network for these images; its notes also say what is trainable.

    Where the images are smaller than the network's own input size, and neither an input size nor a
    fine stem is set, a quick probe on training and validation images chooses.
    """
    settings, seed = pretrained_of(recipe), recipe.train.seed
    probed: tuple[str, ...] = ()
    is_open = settings.input_size is None and settings.stem != "fine"
    if is_open and splits.train.height < own_size(settings):
        settings, why = probe(recipe, settings, splits, offline=offline, progress=progress)
        probed = (why,)
    adapted = adapt(settings, splits.train, resize=splits.resize, seed=seed, offline=offline)
    stages: tuple[str, ...] = ()
    if recipe.transfer.way != "features":
        found = describe_stages(adapted.classifier.net, recipe.transfer, recipe.train.epochs)
        stages = tuple(f"{line[0].upper()}{line[1:]}." for line in found)
    model = recipe.model
    classifier = replace(adapted.classifier, mirror=model.mirror, shifts=model.shifts)
    return Adapted(classifier, (*adapted.notes, *probed, *stages))
