from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from glasshouse.errors import UsageError
from glasshouse.explanation.explain import explain
from glasshouse.explanation.maps.class_maps import class_maps
from tests.explanation.nets import classifier_of, module_net, pooled_net, relative, some_images


@pytest.mark.parametrize("mirror", [False, True])
def test_all_classes_at_once_equal_each_class_alone(mirror: bool) -> None:
    classifier = replace(classifier_of(pooled_net(), double=True), mirror=mirror)
    maps = class_maps(classifier, some_images(2))
    assert maps.shape == (2, 5, 12, 12)
    for k in range(5):
        (one,) = explain(classifier, some_images(2), methods=["grad-cam"], target_class=k)
        assert relative(maps[:, k], one.maps) < 1e-6
    photos = [Image.fromarray(each.transpose(1, 2, 0)) for each in some_images(2)]
    assert np.array_equal(class_maps(classifier, photos), maps)
    with pytest.raises(UsageError, match=r"not linear \(.*Relu"):
        class_maps(classifier_of(module_net()), some_images(2))
