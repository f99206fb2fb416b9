"""What one viewer of the page Explain sees."""

from dataclasses import dataclass, field

from nicegui.element import Element

from glasshouse.explanation.draw.overlay import DEFAULT
from glasshouse.serving.explainer import Explainer
from glasshouse.serving.pages.explain.address import ExplainAddress
from glasshouse.serving.pages.explain.panel import Column
from glasshouse.serving.photos import Photo
from glasshouse.workflow.use.model_choices import ModelChoice


@dataclass
class ExplainState:
    """What one viewer sees.

    asked: how the address names the photo: its id among the test images or the uploads. layer:
    where class activation maps are computed; None: the default of each network. method: None until
    the viewer chooses one: a single result then shows the map to begin with. turn counts
    requests, so that a late result is dropped; shuffles counts random selections.
    """

    explainer: Explainer
    models: list[ModelChoice]
    photo: Photo | None = None
    asked: dict[str, str] = field(default_factory=dict)
    class_name: str | None = None
    layer: str | None = None
    method: str | None = None
    colours: str = DEFAULT
    turn: int = 0
    shuffles: int = 0
    columns: list[Column] = field(default_factory=list)

    @property
    def address(self) -> ExplainAddress:
        """What is shown, as an address."""
        return ExplainAddress(
            models=tuple(self.models),
            class_name=self.class_name,
            method=self.method,
            layer=self.layer,
            **self.asked,
        )

    def is_at(self, turn: int, place: Element) -> bool:
        """Whether a result is still wanted: no newer request, and the viewer is still there."""
        return turn == self.turn and not place.is_deleted
