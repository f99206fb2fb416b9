"""The models that come with Glasshouse, trained by this project: one folder each in ``assets``."""

from dataclasses import replace

from torch import nn

from glasshouse.models import known_names
from glasshouse.models.architecture import build_architecture
from glasshouse.models.classifier import Classifier, load_classifier
from glasshouse.models.freezing import head_of


def load_bundled(name: str) -> Classifier:
    """A bundled model, in evaluation mode on the CPU; raises ModelError when there is none."""
    return load_classifier(known_names.ASSETS / name)


def bundled_backbone(name: str, class_names: tuple[str, ...]) -> Classifier:
    """A bundled model with an untrained head for other classes; its other weights are kept.

    The new head is one dense layer with a bias: a layer after the old one that scales its logits
    would scale those of the new head, too.
    """
    known = load_bundled(name)
    described = dict(known.architecture or {})
    layers = list(described["layers"])
    last = max(k for k, layer in enumerate(layers) if layer["type"] == "dense")
    described["layers"] = [*layers[:last], {"type": "dense", "units": "classes"}]
    described["class_count"] = len(class_names)
    net: nn.Module = build_architecture(described)
    heads = {key for name in head_of(net) for key in net.state_dict() if key.startswith(f"{name}.")}
    kept = {key: value for key, value in known.net.state_dict().items() if key not in heads}
    net.load_state_dict({**net.state_dict(), **kept})
    return replace(
        known,
        net=net.eval(),
        class_names=class_names,
        temperature=1.0,
        architecture=described,
        mirror=False,
        shifts=False,
        conformity=None,
    )
