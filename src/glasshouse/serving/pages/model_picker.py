"""The fields that select the models on the page Explain: name, epoch or weights."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from nicegui import ui
from nicegui.element import Element

from glasshouse.models.pretrained import names_at_hand
from glasshouse.serving.pages.parts import box, in_thread, text
from glasshouse.workflow.use.model_choices import HOW_TO_KEEP, ModelChoice, epochs_of_choice

_FINAL = 0
_LOOK = "outlined dense options-dense"


class Chooser:
    """Fields for two models, the second of which is optional; on_change: called at each change.

    names: runs and bundled models. chosen: the models that are selected at the beginning, at least
    one.
    """

    def __init__(
        self,
        folder: Path,
        names: list[str],
        chosen: Sequence[ModelChoice],
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self._folder, self._on_change = folder, on_change
        self._names = {*names}
        self._fields = [
            _ModelFields("Model", names, chosen[0]),
            _ModelFields("Compare with", names, chosen[1] if len(chosen) > 1 else None),
        ]
        self._fields[1].name.props("clearable")
        for fields, choice in zip_longest(self._fields, chosen):
            self._fit(fields)
            if choice is not None and choice.epoch in fields.epoch.options:
                fields.epoch.value = choice.epoch
            # Only now, since what is set above is no change by the user.
            fields.name.on_value_change(partial(self._on_name_change, fields))
            fields.epoch.on_value_change(self._on_field_change)
            fields.weights.on("change", self._on_field_change)
        text("a run, a bundled model, or any network of torchvision or timm", "span", "gh-help")

    @property
    def chosen(self) -> list[ModelChoice]:
        """The selected models in order; empty where none is selected."""
        return [choice for fields in self._fields if (choice := fields.choice) is not None]

    async def offer_nets_at_hand(self) -> None:
        """Add the pretrained networks whose weights are on this machine; this takes time."""
        found = await in_thread(names_at_hand)
        for fields in self._fields:
            if found:
                fields.name.set_options(list(dict.fromkeys([*fields.name.options, *found])))

    async def _on_name_change(self, fields: "_ModelFields") -> None:
        fields.is_quiet = True  # the fields set here are no changes by the user
        fields.epoch.value, fields.weights.value = _FINAL, ""
        self._fit(fields)
        fields.is_quiet = False
        await self._on_change()

    def _on_field_change(self) -> Awaitable[None] | None:
        # Checked here and not in a coroutine: by the time it ran, is_quiet would be over.
        return None if any(fields.is_quiet for fields in self._fields) else self._on_change()

    def _fit(self, fields: "_ModelFields") -> None:
        """Show the fields that the model has: the epochs of a run, or the weights of a network."""
        name = fields.name.value or ""
        epochs = epochs_of_choice(self._folder, ModelChoice(name))
        options = {epoch: f"epoch {epoch}" for epoch in reversed(epochs)}
        fields.epoch.set_options({_FINAL: "final", **options}, value=_FINAL)
        fields.epoch.set_visibility(bool(epochs))
        fields.hint.set_visibility(0 < len(epochs) <= 2)
        fields.weights.set_visibility(bool(name) and name not in self._names)


class _ModelFields:
    """The fields of one model."""

    def __init__(self, label: str, names: list[str], first: ModelChoice | None) -> None:
        self.is_quiet = False
        with box("gh-model"):
            self.name = ui.select(
                list(dict.fromkeys([*names, *([] if first is None else [first.name])])),
                value=None if first is None else first.name,
                label=label,
                new_value_mode="add-unique",
            )
            self.epoch = ui.select({_FINAL: ""}, value=_FINAL, label="Epoch")
            self.hint = text(f"Only the last two epochs are kept. {HOW_TO_KEEP}", "span", "gh-help")
            self.weights = ui.input("Weights file", placeholder="published weights")
        for field in (self.name, self.epoch, self.weights):
            _look(field)

    @property
    def choice(self) -> ModelChoice | None:
        """The model that the fields describe; None while the name is empty."""
        name, file = str(self.name.value or "").strip(), str(self.weights.value or "").strip()
        if not name:
            return None
        epoch = int(self.epoch.value or 0) or None
        return ModelChoice(name, epoch, Path(file).expanduser() if file else None)


def _look(field: Element) -> None:
    field.props(_LOOK).classes("gh-select")
