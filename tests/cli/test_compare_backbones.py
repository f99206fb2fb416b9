"""The networks that `compare-backbones` is given."""

import pytest

from glasshouse.cli.compare_backbones import _listed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("resnet18", ["resnet18"]),
        ("resnet18,resnet34", ["resnet18", "resnet34"]),
        ("a:mean=0.5,std=0.5,b", ["a:mean=0.5,std=0.5", "b"]),
        ("a,b:weights=c:/x=y.pth,std=0.5", ["a", "b:weights=c:/x=y.pth,std=0.5"]),
        ("a:mean=0.5,b:std=0.5", ["a:mean=0.5", "b:std=0.5"]),
        ("a:mean=0.485,0.456,.406,std=1,b", ["a:mean=0.485,0.456,.406,std=1", "b"]),
    ],
)
def test_networks_in_one_option_may_have_keys(text: str, expected: list[str]) -> None:
    assert _listed(text) == expected
