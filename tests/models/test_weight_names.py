import pytest
import torch
from torch import Tensor

from glasshouse.errors import ModelError
from glasshouse.models.weight_names import without_prefix

NAMES = ("stem.weight", "stem.bias", "head.weight")


def _under(prefix: str, value: float = 0.0, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    return {prefix + name: torch.full((2,), value) for name in names}


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "net.", "_orig_mod.module.", "a.b.c.", "stem."]
)
def test_any_prefix_is_removed_with_a_note(prefix: str) -> None:
    weights, notes = without_prefix(_under(prefix), NAMES, "w.pt")
    assert tuple(weights) == NAMES
    assert notes == (f"'{prefix}' was removed from the names in w.pt",)


def test_names_of_the_network_stay_as_they_are() -> None:
    # Without its head, all names begin with the same word, which is no prefix.
    weights, notes = without_prefix(_under("", names=NAMES[:2]), NAMES, "w.pt")
    assert tuple(weights) == NAMES[:2] and notes == ()


def test_what_is_not_of_the_network_is_left_out_with_a_note() -> None:
    given = {**_under("model."), "loss.weight": torch.zeros(1), "n_averaged": torch.zeros(())}
    weights, notes = without_prefix(given, NAMES, "w.pt")
    assert tuple(weights) == NAMES
    assert notes[1] == "not under 'model.', and left out: loss.weight, n_averaged"


def test_several_sets_of_weights_are_refused_unless_they_are_equal() -> None:
    with pytest.raises(ModelError, match=r"under 'student\.' and 'teacher\.'"):
        without_prefix({**_under("student."), **_under("teacher.", 1.0)}, NAMES, "w.pt")
    weights, _ = without_prefix({**_under("student."), **_under("teacher.")}, NAMES, "w.pt")
    assert tuple(weights) == NAMES


def test_plain_names_are_taken_before_a_second_set_which_stays_for_the_error() -> None:
    given = {**_under(""), **_under("ema.", 1.0)}
    weights, notes = without_prefix(given, NAMES, "w.pt")
    assert weights.keys() == given.keys() and notes == ()


def test_names_of_others_lose_what_all_of_them_begin_with() -> None:
    given = {"module.encoder.one": torch.zeros(1), "module.encoder.two": torch.zeros(1)}
    weights, _ = without_prefix(given, NAMES, "w.pt")
    assert tuple(weights) == ("one", "two")
