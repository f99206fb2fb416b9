"""The learning-rate range test of a recipe, on copies of the network it would train."""

from glasshouse.progress import Progress
from glasshouse.training.finder import RangeTest, find_lr
from glasshouse.training.lr_curve import DEFAULT_RULE, LrCurve
from glasshouse.training.transfer import starting_net
from glasshouse.workflow.train.experiment import TrainRequest, first_classifier, make_setup


def find_recipe_lr(
    request: TrainRequest,
    *,
    test: RangeTest | None = None,
    rule: str = DEFAULT_RULE,
    progress: Progress | None = None,
) -> LrCurve:
    """The range test of a recipe's network on its training images; nothing is written.

    Raises UsageError for an unknown rule, DataError when there is nothing to train on.
    """
    recipe = request.recipe
    splits, classifier = first_classifier(request, progress)
    net = starting_net(classifier.net, recipe.transfer, recipe.train.epochs)
    setup = make_setup(recipe, splits, classifier)
    return find_lr(net, setup, test=test, rule=rule, progress=progress)
