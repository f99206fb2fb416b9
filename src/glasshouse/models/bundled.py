"""The models that come with Glasshouse, trained by this project: one folder each in ``assets``."""

from glasshouse.models import known_names
from glasshouse.models.classifier import Classifier, load_classifier


def load_bundled(name: str) -> Classifier:
    """A bundled model, in evaluation mode on the CPU; raises ModelError when there is none."""
    return load_classifier(known_names.ASSETS / name)
