"""The untrained classifier of a network that the user's own code builds."""

from dataclasses import replace

import torch

from glasshouse.data.images import Splits
from glasshouse.errors import UsageError
from glasshouse.models.classifier import Classifier
from glasshouse.models.weight_files import read_weights
from glasshouse.models.weights import load_weights
from glasshouse.rng import derive
from glasshouse.training.fit import fit_preprocessing, untrained_classifier
from glasshouse.workflow.train.request import TrainRequest
from glasshouse.workflow.use.own_code import own_net, parse_own_code


def require_may_run(request: TrainRequest) -> None:
    """Raise UsageError for code that only the recipe names, which may be anybody's."""
    code = request.recipe.model.code
    if code is not None and not request.may_run_code:
        raise UsageError(
            f"the network of this recipe is code of a user's own, which runs only where a command "
            f"names it: glasshouse train {request.source} --net {code}"
        )


def own_untrained(request: TrainRequest, splits: Splits) -> Classifier:
    """The network of ``recipe.model.code`` for these images; equal seeds give equal weights.

    Its input is scaled as --net or ``model.scaling`` says. Raises UsageError where the code may not
    run, and ModelError for code that fails or a network that does not suit the images.
    """
    require_may_run(request)
    model, seed = request.recipe.model, request.recipe.train.seed
    code = parse_own_code(str(model.code))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        net = own_net(code, len(splits.class_names))
    if request.weights is not None:
        load_weights(net, read_weights(request.weights)[0], request.weights)
    untrained = untrained_classifier(net, splits, seed=seed)
    known = fit_preprocessing(splits.train, model.scaling, splits.resize)
    preprocessing = replace(known, mean=code.mean or known.mean, std=code.std or known.std)
    return replace(untrained, preprocessing=preprocessing, mirror=model.mirror, shifts=model.shifts)
