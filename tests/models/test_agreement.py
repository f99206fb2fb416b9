import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glasshouse.data.decode import decode
from glasshouse.models.agreement import agreement, changed_by_class_means, changed_logits
from glasshouse.models.classifier import scale
from glasshouse.models.freezing import head_of
from glasshouse.models.inference import inference_net
from glasshouse.models.preprocessing import Preprocessing, preprocess
from glasshouse.models.zoo import create


def drawn(count: int, noise: float, *, seed: int = 0, classes: int = 10) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=random)
    return logits, logits + noise * torch.randn(count, classes, generator=random)


@pytest.mark.parametrize("noise", [0.003, 0.02, 0.1])
def test_a_few_dozen_images_estimate_how_many_predictions_change(noise: float) -> None:
    expected, found = drawn(200_000, noise)
    truth = float((expected.argmax(dim=1) != found.argmax(dim=1)).float().mean())
    told = [changed_logits(*drawn(64, noise, seed=seed)) for seed in range(200)]
    assert np.mean(told) == pytest.approx(truth, rel=0.25)
    assert np.std(told) < max(truth, 0.005)


def test_what_all_classes_share_hides_changes_from_the_cosine_alone() -> None:
    expected, found = drawn(64, 0.05)
    compared = agreement(expected + 30, found + 30, changed_logits)
    assert compared.cosine > 0.9999
    assert compared.changed is not None and compared.changed > 0.01
    assert not compared.is_enough
    assert agreement(expected + 30, found + 30).is_enough
    assert agreement(expected, expected + 1e-5, changed_logits).is_enough


def test_nan_agrees_with_nothing() -> None:
    expected, _ = drawn(8, 0)
    broken = torch.full_like(expected, torch.nan)
    compared = agreement(expected, broken, changed_logits)
    assert (compared.cosine, compared.changed) == (-1.0, 0.5)
    assert not compared.is_enough


def test_one_class_or_one_image_of_each_has_nothing_to_confuse() -> None:
    rows, noisy = drawn(6, 0.5)
    assert changed_logits(rows[:, :1], noisy[:, :1]) == 0
    assert changed_by_class_means(torch.zeros(6, dtype=torch.int64), rows, noisy) == 0
    assert changed_by_class_means(torch.arange(6), rows, noisy) == 0


def test_features_are_judged_by_means_of_the_others_of_each_class() -> None:
    """The definition, image by image."""
    labels = torch.tensor([5, 0, 5, 2, 0, 5, 0, 5, 9])  # two classes have one image only
    rows, noisy = drawn(9, 0.3, classes=4)
    standard, other = ((each - rows.mean(dim=0)) / rows.std(dim=0) for each in (rows, noisy))
    expected: list[Tensor] = []
    found: list[Tensor] = []
    for i in range(9):
        if int((labels == labels[i]).sum()) < 2:
            continue
        others = torch.arange(9) != i
        means = [standard[others & (labels == c)].mean(dim=0) for c in (0, 2, 5, 9)]
        for each, logits in ((standard, expected), (other, found)):
            logits.append(torch.stack([-((each[i] - mean) ** 2).sum() / 2 for mean in means]))
    told = changed_by_class_means(labels, rows, noisy)
    assert told == pytest.approx(changed_logits(torch.stack(expected), torch.stack(found)))
    assert told > 0


def test_low_precision_whose_answers_change_is_refused() -> None:
    class Narrow(nn.Module):
        """Logits that differ by less than bf16 can tell."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = 0.01 * self.layer(inputs.mean(dim=(2, 3))) + 10
            return logits

    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert inference_net(Narrow(), images, torch.bfloat16).precision == torch.bfloat16
    ready = inference_net(Narrow(), images, torch.bfloat16, changed=changed_logits)
    assert ready.precision == torch.float32
    assert ready.refused is not None and "expected to change" in ready.refused.describe()


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenetv2_100"])
def test_on_real_photos_real_nets_answer_as_in_float32(name: str) -> None:
    folder = Path(os.environ["GLASSHOUSE_DATA"])
    endings = (".jpg", ".jpeg", ".png")
    photos = [p for p in sorted((folder / "photos").rglob("*")) if p.suffix.lower() in endings]
    photos += sorted((folder / "hymenoptera").rglob("*.jpg"))
    file = next((folder / "weights" / "imagenet").glob(f"{name}*.safetensors"))
    is_mobile = name == "mobilenetv2_100"
    classifier = create(
        name, weights=file, arguments={"pad_type": "same"} if is_mobile else {}
    ).classifier
    half = (0.5, 0.5, 0.5)
    wanted = Preprocessing(224, 224, "crop", half, half, 0.875)
    wanted = wanted if is_mobile else classifier.preprocessing
    images = np.stack([preprocess(decode(photo), wanted) for photo in photos])
    inputs = scale(torch.from_numpy(images), wanted)
    some = inputs[np.linspace(0, len(inputs) - 1, 64).astype(int)]
    head = head_of(classifier.net)
    ready = inference_net(classifier.net, some, torch.bfloat16, head=head, changed=changed_logits)
    parts = torch.split(inputs, 32)
    with torch.inference_mode():
        own = torch.cat([classifier.net(part) for part in parts]).argmax(dim=1)
    found = torch.cat([ready(part) for part in parts]).argmax(dim=1)
    assert float((own == found).float().mean()) >= 0.995
