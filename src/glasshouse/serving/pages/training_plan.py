"""The plan of a training run, as filled in on the page Train."""

from collections.abc import Callable
from typing import Any

from glasshouse.data.sources import require_source
from glasshouse.errors import GlasshouseError, RecipeError, UsageError
from glasshouse.recipe import load_recipe
from glasshouse.serving.pages.settings_form import (
    FieldProblem,
    Form,
    Value,
    overrides,
    recipe_with_values,
)
from glasshouse.settings import Recipe


class TrainingPlan:
    """Source, recipe and settings as the page shows them; changed: called after each change.

    problems: what shows an error below a field that does not belong to the form, by its name.
    """

    def __init__(self) -> None:
        self.source: Any = None
        self.recipe: Any = None
        self.minutes: Any = None
        self.more: Any = None
        self.problems: dict[str, FieldProblem] = {}
        self.changed: list[Callable[[], Any]] = []
        self.form: Form = Form(lambda: [call() for call in self.changed])

    @property
    def extra(self) -> list[str]:
        """The overrides that were typed, one per line."""
        lines = (self.more.value or "").splitlines()
        return [line.strip() for line in lines if line.strip()]

    @property
    def values(self) -> dict[str, Value]:
        """The values of the form; without the epochs where the time budget decides on them."""
        found = self.form.values
        if self.minutes.value is not None:
            del found["train.epochs"]
        return found

    def resolved(self) -> Recipe:
        """The resolved recipe.

        Raises RecipeError after marking the fields concerned; its message names them, and says in
        full what belongs to no field.
        """
        self.problems["more"].clear()
        self.problems["minutes"].clear()
        self.form.clear_problems()
        if self.minutes.value is not None and self.minutes.value <= 0:
            self.problems["minutes"].show("expected more than 0 minutes")
            raise RecipeError("Check the time budget.")
        try:
            self.form.require_filled(self.values)
            return recipe_with_values(str(self.recipe.value), self.values, self.extra)
        except RecipeError as error:
            raise RecipeError(self._mark(str(error))) from error

    def checked_source(self) -> str:
        """The source; raises UsageError after marking its field when there is no such source."""
        source = str(self.source.value or "").strip()
        self.problems["source"].clear()
        try:
            if not source:  # as a path, it would be the working folder
                raise UsageError("expected a built-in data set, a folder or a table")
            require_source(source)
        except GlasshouseError as error:
            self.problems["source"].show(str(error))
            raise UsageError("Check the source.") from error
        return source

    def arguments(self) -> list[str]:
        """The same as options of the command line: --set KEY=VALUE, and --minutes."""
        base = load_recipe(str(self.recipe.value))
        found = [*overrides(base, self.values), *self.extra]
        options = [part for override in found for part in ("--set", override)]
        minutes = self.minutes.value
        return options if minutes is None else [*options, "--minutes", f"{minutes:g}"]

    def _mark(self, message: str) -> str:
        """Show each line of a message at its field; what remains to be said elsewhere."""
        typed = {override.partition("=")[0].strip() for override in self.extra}
        names, rest = [], []
        for line in message.removeprefix("the recipe is not valid:").strip().splitlines():
            key, _, words = line.strip().partition(": ")
            if key in self.form.fields and key not in typed:
                names.append(self.form.show_problem(key, words))
            elif typed:
                self.problems["more"].show(line.strip())
                names.append("Any other key")
            else:
                rest.append(line.strip())
        marked = f"Check the marked field: {', '.join(dict.fromkeys(names))}." if names else ""
        return "\n".join([*([marked] if marked else []), *rest])
