import pytest

from glasshouse.errors import UsageError
from glasshouse.explanation.activations import activations
from tests.explanation.nets import classifier_of, module_net, some_images


def test_activations_are_the_outputs_of_the_named_layers() -> None:
    classifier = classifier_of(module_net(inplace=True))
    first, last = activations(classifier, some_images(2), ["0", "8"])
    assert (first.values < 0).any() and first.values.shape == (2, 6, 14, 14)
    assert last.values.shape == (2, 5)
    with pytest.raises(UsageError, match="no layer '77'"):
        activations(classifier, some_images(2), ["77"])
