from dataclasses import replace

import pytest

from glasshouse.models import parameter_counts
from glasshouse.models.parameter_counts import with_parameters
from glasshouse.models.pretrained import ModelCard, build_net


def one_card() -> ModelCard:
    return ModelCard("timm/test_vit", "timm", None, (3, 160, 160), None, None)


def test_parameters_are_counted_once_and_kept_in_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = one_card()
    assert with_parameters([card], count=False)[0].parameters is None
    told: list[tuple[str, int, int]] = []
    (found,) = with_parameters([card], progress=lambda *each: told.append(each))
    net = build_net(card.name, None, {})
    assert found == replace(card, parameters=sum(p.numel() for p in net.parameters()))
    assert told == [("counting parameters", 1, 1)]

    def never(_: ModelCard) -> ModelCard:
        raise AssertionError("a network was built again")

    monkeypatch.setattr(parameter_counts, "count_parameters", never)
    assert with_parameters([card]) == (found,)
    assert with_parameters([card], count=False) == (found,)


def test_a_number_that_is_known_is_left_as_it_is() -> None:
    card = replace(one_card(), parameters=7)
    assert with_parameters([card]) == (card,)
