"""The plan of a training run, as filled in on the page Train."""

from collections.abc import Callable
from typing import Any

from glasshouse.recipe import load_recipe
from glasshouse.serving.pages.settings_form import Form, overrides, recipe_with_values
from glasshouse.settings import Recipe


class TrainingPlan:
    """Source, recipe and settings as the page shows them; changed: called after each change."""

    def __init__(self) -> None:
        self.source: Any = None
        self.recipe: Any = None
        self.more: Any = None
        self.changed: list[Callable[[], Any]] = []
        self.form: Form = Form(lambda: [call() for call in self.changed])

    @property
    def extra(self) -> list[str]:
        """The overrides that were typed, one per line."""
        lines = (self.more.value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def resolved(self) -> Recipe:
        """The resolved recipe; raises RecipeError that names the invalid key."""
        return recipe_with_values(str(self.recipe.value), self.form.values, self.extra)

    def arguments(self) -> list[str]:
        """The same as options of the command line: --set KEY=VALUE."""
        base = load_recipe(str(self.recipe.value))
        found = [*overrides(base, self.form.values), *self.extra]
        return [part for override in found for part in ("--set", override)]
