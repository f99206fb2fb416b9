"""`glasshouse recipes`: the recipes that come with Glasshouse, as a list or as TOML."""

from typing import Annotated

import typer

from glasshouse.cli.options import Json, print_json


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this recipe as TOML.")
    ] = None,
    json: Json = False,
) -> None:
    """List all recipes, or print one to copy into a file for --recipe FILE."""
    from glasshouse.recipe import load_recipe, recipe_names, recipe_text

    if name is not None:
        if json:
            print_json(load_recipe(name).model_dump(mode="json"))
        else:
            print(recipe_text(name).rstrip())
        return
    found = {each: load_recipe(each).description for each in recipe_names()}
    if json:
        print_json([{"name": each, "description": words} for each, words in found.items()])
        return
    width = max(map(len, found))
    for each, words in found.items():
        print(f"{each:<{width}}  {words}")
