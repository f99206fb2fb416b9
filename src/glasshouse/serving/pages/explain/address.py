"""The state of the page Explain as its address, so that it can be reloaded, kept and passed on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from glasshouse.errors import UsageError
from glasshouse.models.known_names import require_known
from glasshouse.workflow.use.model_choices import ModelChoice


@dataclass(frozen=True)
class ExplainAddress:
    """What is explained and how; image: the id of a test image; photo: that of an upload.

    An upload is kept as long as the workbench runs, and a few dozen others are not newer. method:
    None until one is chosen.
    """

    models: tuple[ModelChoice, ...]
    image: str = ""
    photo: str = ""
    class_name: str | None = None
    method: str | None = None
    layer: str | None = None

    @property
    def url(self) -> str:
        """The address; a weights file is left out, since paths do not belong in addresses."""
        first, *others = self.models
        values = {
            "model": first.name,
            "epoch": first.epoch,
            "with": others[0].name if others else None,
            "with_epoch": others[0].epoch if others else None,
            "image": self.image,
            "photo": self.photo,
            "class": self.class_name,
            "method": self.method,
            "layer": self.layer,
        }
        given = {name: value for name, value in values.items() if value not in (None, "")}
        return f"/explain?{urlencode(given)}"


def read_address(values: Mapping[str, str], names: Sequence[str]) -> ExplainAddress:
    """The state that an address describes; names: the runs and bundled models, at least one.

    Anything unknown in it is left out: an old address still opens the page.
    """
    first = _model(values.get("model", ""), values.get("epoch", ""), names)
    second = _model(values.get("with", ""), values.get("with_epoch", ""), names)
    models = [first or ModelChoice(names[0]), *([] if second is None else [second])]
    return ExplainAddress(
        models=tuple(models),
        image=values.get("image", ""),
        photo=values.get("photo", ""),
        class_name=values.get("class") or None,
        method=values.get("method") or None,
        layer=values.get("layer") or None,
    )


def _model(name: str, epoch: str, names: Sequence[str]) -> ModelChoice | None:
    if not name:
        return None
    try:
        if name not in names:
            require_known(name)
    except UsageError:
        return None
    is_number = epoch.isascii() and epoch.isdecimal() and len(epoch) < 6
    return ModelChoice(name, int(epoch) if is_number and int(epoch) else None)
