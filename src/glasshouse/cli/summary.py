"""`glasshouse summary`: the layers of a network."""

from typing import Annotated

import typer

from glasshouse.cli.options import AnyNet, Json, Set, print_json


def summary(
    model: AnyNet,
    set_: Set = None,
    size: Annotated[
        int, typer.Option(min=1, help="Width and height in pixels, for a preset or recipe.")
    ] = 32,
    classes: Annotated[
        int, typer.Option(min=2, help="Number of classes, for a preset or recipe.")
    ] = 10,
    json: Json = False,
) -> None:
    """Print each layer of MODEL with its output shape, parameters and multiply-adds."""
    from dataclasses import asdict

    from glasshouse.cli import early_checks

    early_checks.require_net(model, set_ or ())
    from glasshouse.models.summary import format_summary, summarize
    from glasshouse.workflow.use.model_names import net_by_name

    net, shape = net_by_name(model, set_ or [], size=size, class_count=classes)
    result = summarize(net, shape)
    if json:
        print_json(asdict(result))
    else:
        print(format_summary(result))
