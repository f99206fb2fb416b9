"""`glasshouse summary`: the layers of a network."""

from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.named_classifier import NamedModel, classifier_named
from glasshouse.cli.options import (
    AnyNet,
    ClassNamesFile,
    Json,
    Net,
    Offline,
    Set,
    Weights,
    print_json,
)

if TYPE_CHECKING:
    from torch import nn


def summary(
    model: AnyNet = None,
    set_: Set = None,
    size: Annotated[
        int, typer.Option(min=1, help="Width and height in pixels, for a preset or recipe.")
    ] = 32,
    classes: Annotated[
        int, typer.Option(min=2, help="Number of classes, for a preset or recipe.")
    ] = 10,
    net: Net = None,
    weights: Weights = None,
    class_names: ClassNamesFile = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Print each layer of MODEL with its output shape, parameters and multiply-adds."""
    from dataclasses import asdict

    from glasshouse.cli import early_checks

    named = NamedModel(model, net, weights, class_names, offline)
    if model is None or net is not None or named.has_weights_or_names:
        named.checked()
    else:
        early_checks.require_net(model, set_ or ())
    from glasshouse.models.summary import format_summary, summarize

    own, shape = _net_and_shape(named, set_ or [], size, classes)
    result = summarize(own, shape)
    if json:
        print_json(asdict(result))
    else:
        print(format_summary(result))


def _net_and_shape(
    named: NamedModel, overrides: list[str], size: int, classes: int
) -> "tuple[nn.Module, tuple[int, int, int]]":
    from glasshouse.workflow.use.model_names import net_by_name, net_of_own_code

    if named.net is not None:
        return net_of_own_code(
            named.net,
            named.model,
            size=size,
            class_count=classes,
            weights=named.weights,
            class_names=named.names(),
        )
    if not named.has_weights_or_names:
        return net_by_name(str(named.model), overrides, size=size, class_count=classes)
    classifier = classifier_named(named)
    wanted = classifier.preprocessing
    return classifier.net, (3, wanted.height, wanted.width)
