"""The state of the page Explain in its address."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from glasshouse.serving.pages.explain.address import ExplainAddress, read_address
from glasshouse.workflow.use.model_choices import ModelChoice

NAMES = ["pets-1", "sub/second"]


def again(address: ExplainAddress) -> ExplainAddress:
    return read_address(dict(parse_qsl(urlsplit(address.url).query)), NAMES)


@pytest.mark.parametrize(
    "address",
    [
        ExplainAddress((ModelChoice("pets-1"),)),
        ExplainAddress((ModelChoice("sub/second", 3), ModelChoice("pets-1", 1)), image="cat/1.jpg"),
        ExplainAddress(
            (ModelChoice("pets-1"),),
            photo="key_1-2",
            class_name="a & b=c/ä",
            method="layer-cam",
            layer="features.3:1",
        ),
        ExplainAddress((ModelChoice("pets-1"), ModelChoice("resnet18"))),
    ],
)
def test_an_address_gives_back_the_state_it_was_made_from(address: ExplainAddress) -> None:
    assert again(address) == address


def test_what_is_the_default_is_left_out() -> None:
    assert ExplainAddress((ModelChoice("pets-1"),)).url == "/explain?model=pets-1"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model": "../../etc"},
        {"model": "no-such-model", "epoch": "x"},
        {"model": "<script>", "with": "<script>", "with_epoch": "9" * 30},
    ],
)
def test_unknown_models_in_an_address_are_left_out(values: dict[str, str]) -> None:
    assert read_address(values, NAMES).models == (ModelChoice("pets-1"),)


@pytest.mark.parametrize("epoch", ["0", "-1", "x", "²", "9" * 30, ""])
def test_an_epoch_that_is_none_means_the_final_weights(epoch: str) -> None:
    assert read_address({"model": "pets-1", "epoch": epoch}, NAMES).models[0].epoch is None
