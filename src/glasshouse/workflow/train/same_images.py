"""Whether machines that read a source for themselves read the same images."""

from dataclasses import dataclass, field
from pathlib import Path

from glasshouse.errors import DataError
from glasshouse.runs import folder as runs


@dataclass
class SameImages:
    """The images of the runs so far, by their settings for data."""

    seen: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def require(self, folder: Path) -> None:
        """Raise DataError where an earlier run with the same settings had other images."""
        run = runs.read_run(folder)
        images = run.environment["data"]["fingerprint"]
        settings = run.recipe.data.model_dump_json() + str(run.recipe.model.pretrained)
        before, other = self.seen.setdefault(settings, (images, folder))
        if before != images:
            raise DataError(
                f"{folder} was trained on other images than {other}: the machines of the cluster "
                "do not read the same source. Put it on a disk that all share, or name an address, "
                "and remove the runs on wrong images"
            )
