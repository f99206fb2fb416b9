"""The models that come with Glasshouse, trained by this project: one folder each in ``assets``."""

from importlib import resources
from pathlib import Path

from glasshouse.models.classifier import MODEL_FILE, Classifier, load_classifier

ASSETS = Path(str(resources.files("glasshouse"))) / "assets"
# A cat, 451 x 300, in the public domain: something to try a classifier on without a download.
EXAMPLE_PHOTO = ASSETS / "photos" / "chelsea.png"


def bundled_names() -> list[str]:
    """The names of the bundled models, in alphabetical order."""
    return sorted(path.parent.name for path in ASSETS.glob(f"*/{MODEL_FILE}"))


def load_bundled(name: str) -> Classifier:
    """A bundled model, in evaluation mode on the CPU; raises ModelError when there is none."""
    return load_classifier(ASSETS / name)
