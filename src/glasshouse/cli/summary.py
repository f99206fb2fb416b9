"""`glasshouse summary`: the layers of a network."""

from typing import Annotated

import typer

from glasshouse.cli.options import AnyNet, Json, Net, Set, print_json


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
    json: Json = False,
) -> None:
    """Print each layer of MODEL with its output shape, parameters and multiply-adds."""
    from dataclasses import asdict

    from glasshouse.cli import early_checks
    from glasshouse.errors import UsageError

    if model is None and net is None:
        raise UsageError("expected a MODEL, or --net with your own code; received neither")
    if model is not None and net is None:
        early_checks.require_net(model, set_ or ())
    from glasshouse.models.summary import format_summary, summarize
    from glasshouse.workflow.use.model_names import net_by_name, net_of_own_code

    own, shape = (
        net_by_name(str(model), set_ or [], size=size, class_count=classes)
        if net is None
        else net_of_own_code(net, model, size=size, class_count=classes)
    )
    result = summarize(own, shape)
    if json:
        print_json(asdict(result))
    else:
        print(format_summary(result))
