from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glasshouse.errors import ModelError, NotFinite, WrongWeights
from glasshouse.models.weights import load_weights


def _net(classes: int = 3) -> Any:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, classes))


def _state(classes: int = 3) -> dict[str, Tensor]:
    return {key: torch.rand(v.shape) for key, v in _net(classes).state_dict().items()}


def test_weights_are_copied_in_the_precision_of_the_net() -> None:
    net, state = _net(), {key: value.half() for key, value in _state().items()}
    assert load_weights(net, state, "file") == ()
    assert net[0].weight.dtype == torch.float32
    assert torch.equal(net[0].weight, state["0.weight"].float())


def test_keys_that_do_not_fit_are_named_and_the_net_is_left_alone() -> None:
    net, state = _net(), _state()
    before = net[2].weight.clone()
    state["more"] = state.pop("0.bias")
    state["0.weight"] = torch.zeros(5, 7)
    with pytest.raises(WrongWeights) as caught:
        load_weights(net, state, "file.pt")
    message = str(caught.value)
    for part in (
        "file.pt",
        "missing: 0.bias",
        "unexpected: more",
        "0.weight is 5x7, expected 5x4",
    ):
        assert part in message
    assert torch.equal(net[2].weight, before)


def test_only_the_first_keys_are_listed() -> None:
    with pytest.raises(ModelError, match=r"missing: 0\.weight, 0\.bias, 1\.weight and 5 more"):
        load_weights(_net(), {}, "file")


def test_a_head_for_other_classes_keeps_its_own_values() -> None:
    net, state = _net(3), _state(9)
    own = net[2].weight.clone()
    notes = load_weights(net, state, "file", replaceable=("2.weight", "2.bias"))
    assert notes == (
        "the head was replaced by an untrained one (9 -> 3 classes): 2.weight, 2.bias",
    )
    assert torch.equal(net[2].weight, own)
    assert torch.equal(net[0].weight, state["0.weight"])


def test_a_head_that_is_not_in_the_file_is_noted() -> None:
    state = {key: value for key, value in _state().items() if not key.startswith("2.")}
    notes = load_weights(_net(), state, "file", replaceable=("2.weight", "2.bias"))
    assert "the file has no head" in notes[0]


def test_old_files_without_counters_are_taken() -> None:
    state = _state()
    del state["1.num_batches_tracked"]
    assert load_weights(_net(), state, "file") == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_by_its_key(value: float) -> None:
    net, state = _net(), _state()
    before = net[0].weight.clone()
    state["2.weight"][1, 0] = value
    with pytest.raises(NotFinite, match=r"file\.pt: 2\.weight has 1 of 15 values that are"):
        load_weights(net, state, "file.pt")
    assert torch.equal(net[0].weight, before)


def test_a_value_too_large_for_the_network_is_refused() -> None:
    state = _state()
    state["0.bias"][0] = 1e6
    with pytest.raises(NotFinite, match=r"0\.bias has 1 of 5"):
        load_weights(_net().half(), state, "file.pt")


def test_a_buffer_that_is_infinite_in_the_network_may_be_so_in_the_file() -> None:
    net = _net()
    net.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    load_weights(net, {**_state(), "mask": torch.tensor([0.0, float("-inf")])}, "file.pt")
    with pytest.raises(NotFinite, match="mask"):
        load_weights(net, {**_state(), "mask": torch.tensor([float("-inf"), 0.0])}, "file.pt")


def test_a_negative_variance_is_refused_by_its_key() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    state["1.running_var"][2] = -1e-7
    with pytest.raises(ModelError, match=r"file\.pt: 1\.running_var has 1 of 5 .* negative"):
        load_weights(net, state, "file.pt")
    state["1.running_var"][2] = 0.0
    load_weights(net, state, "file.pt")


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_integers_in_place_of_weights_are_refused_by_their_key(kind: torch.dtype) -> None:
    state = {**_state(), "2.weight": torch.ones(3, 5).to(kind)}
    with pytest.raises(ModelError, match=r"file\.pt: 2\.weight has values of type .*quantised"):
        load_weights(_net(), state, "file.pt")


def test_whole_numbers_stored_as_floats_are_taken_for_integers() -> None:
    net = _net()
    net.register_buffer("index", torch.zeros(2, dtype=torch.int64))
    load_weights(net, {**_state(), "index": torch.tensor([3.0, 5.0])}, "file.pt")
    assert net.index.tolist() == [3, 5]
    with pytest.raises(ModelError, match="index has values that are not"):
        load_weights(net, {**_state(), "index": torch.tensor([3.5, 5.0])}, "file.pt")


def test_prefixes_of_wrappers_are_removed_with_a_note() -> None:
    net, state = _net(), _state()
    wrapped = {f"_orig_mod.module.{key}": value for key, value in state.items()}
    assert load_weights(net, wrapped, "file.pt") == (
        "'_orig_mod.module.' was removed from the names in file.pt",
    )
    assert torch.equal(net[2].weight, state["2.weight"])
