"""What stands on the page Train before anything is started."""

from collections.abc import Callable
from typing import Any

from glasshouse.recipe import load_recipe
from glasshouse.serving.pages.settings_form import Form, overrides, with_values
from glasshouse.settings import Recipe


class TrainingPlan:
    """What stands on the page: source, recipe and settings, before anything is started."""

    def __init__(self) -> None:
        self.source: Any = None
        self.recipe: Any = None
        self.more: Any = None
        self.changed: list[Callable[[], Any]] = []
        self.form = Form(lambda: [tell() for tell in self.changed])

    @property
    def extra(self) -> list[str]:
        """The keys that were typed, a line each."""
        lines = (self.more.value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    def resolved(self) -> Recipe:
        """The whole recipe; raises RecipeError that names what does not fit."""
        return with_values(str(self.recipe.value), self.form.values, self.extra)

    def arguments(self) -> list[str]:
        """The same as --set of the command line."""
        base = load_recipe(str(self.recipe.value))
        found = [*overrides(base, self.form.values), *self.extra]
        return [part for override in found for part in ("--set", override)]
