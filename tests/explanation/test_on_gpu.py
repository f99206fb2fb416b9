"""Explanations on a CUDA device are those of the CPU."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from glasshouse.explanation.explain import explain
from glasshouse.explanation.methods import ALL_METHODS, ROLLOUTS, ExplainSettings, MethodName
from glasshouse.models.bundled import load_bundled
from glasshouse.models.classifier import Classifier
from glasshouse.models.devices import use_device
from glasshouse.models.predict import predict
from tests.explanation.nets import classifier_of, functional_net, module_net, some_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::glasshouse.explanation.explain.ExplanationWarning"),
]


def both(classifier: Classifier) -> tuple[Classifier, Classifier]:
    return classifier, use_device(replace(classifier, net=copy.deepcopy(classifier.net)), "cuda")


@pytest.mark.parametrize("make", [module_net, functional_net])
@pytest.mark.parametrize("method", [name for name in ALL_METHODS if name not in ROLLOUTS])
def test_every_method_gives_the_maps_of_the_cpu(make: object, method: MethodName) -> None:
    assert callable(make)
    settings = ExplainSettings(samples=3, steps=4)
    (cpu,), (gpu,) = (
        explain(each, some_images(), methods=[method], settings=settings)
        for each in both(classifier_of(make()))
    )
    largest = np.abs(cpu.maps).max()
    assert np.abs(cpu.maps - gpu.maps).max() <= 1e-4 * largest
    assert np.array_equal(cpu.targets, gpu.targets)


def test_the_bundled_network_answers_as_on_the_cpu() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    cpu, gpu = (predict(each, images).logits for each in both(load_bundled("cifar10-small")))
    assert np.abs(cpu - gpu).max() <= 1e-4 * np.abs(cpu).max()
