from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glasshouse.data.images import Splits
from glasshouse.errors import ModelError
from glasshouse.models.classifier import load_classifier, save_classifier
from glasshouse.models.freezing import freeze
from glasshouse.models.predict import predict
from glasshouse.models.pretrained import build_net
from glasshouse.settings import AugmentSettings, PretrainedSettings, TrainSettings, TransferSettings
from glasshouse.training.adapting import adapt, own_size, with_head
from glasshouse.training.features import extract, make_extractor
from glasshouse.training.fit import train_classifier
from glasshouse.training.heads import HeadSettings, fit_heads
from glasshouse.training.loop import Step, TrainingSetup
from glasshouse.training.state import Epoch, load_checkpoint, save_checkpoint
from glasshouse.training.transfer import (
    begin_transfer,
    describe_stages,
    rate_factors,
    starting_net,
    train_transfer,
    trainable_now,
)

CPU = torch.device("cpu")
SMALL = PretrainedSettings(name="resnet10t", weights="none", input_size=32)
TRAIN = TrainSettings(epochs=3, batch_size=16, lr=1e-3, precision="fp32", device="cpu")
GRADUAL = TransferSettings(way="gradual", unfreeze=("head", "last-1", "all"), rate_factor=0.5)


def course_for(splits: Splits, settings: TrainSettings = TRAIN) -> tuple[nn.Module, TrainingSetup]:
    classifier = adapt(SMALL, splits.train).classifier
    parts = (splits.train, splits.validation, classifier.preprocessing)
    return classifier.net, TrainingSetup(*parts, settings, AugmentSettings())


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_weights_of_a_file_arrive_and_the_head_is_new(tmp_path: Path, tiny_splits: Splits) -> None:
    source = build_net("resnet50", 1000, {}, seed=5)
    save_file(source.state_dict(), tmp_path / "resnet50.safetensors")
    settings = PretrainedSettings(name="resnet50", weights=str(tmp_path / "resnet50.safetensors"))
    adapted = adapt(settings, tiny_splits.train)
    assert own_size(settings) == 224
    assert adapted.classifier.class_names == tiny_splits.class_names
    weight = adapted.classifier.net.get_parameter("body.layer4.2.conv3.weight")
    assert torch.equal(weight, source.get_parameter("layer4.2.conv3.weight"))
    assert adapted.classifier.net.get_parameter("body.fc.weight").shape == (4, 2048)
    assert any("1000 -> 4 classes" in note for note in adapted.notes)
    assert any("16x16 are enlarged to 224x224" in note for note in adapted.notes)


def test_mean_and_deviation_can_be_given_and_default_to_the_nets_own(tiny_splits: Splits) -> None:
    own = adapt(SMALL, tiny_splits.train).classifier.preprocessing
    given = adapt(SMALL.model_copy(update={"mean": 0.5, "std": (0.1, 0.2, 0.3)}), tiny_splits.train)
    assert own.mean == (0.485, 0.456, 0.406)
    assert given.classifier.preprocessing.mean == (0.5, 0.5, 0.5)
    assert given.classifier.preprocessing.std == (0.1, 0.2, 0.3)


def test_a_missing_weights_file_is_named(tiny_splits: Splits) -> None:
    with pytest.raises(ModelError, match=r"weights file nowhere\.safetensors does not exist"):
        adapt(SMALL.model_copy(update={"weights": "nowhere.safetensors"}), tiny_splits.train)


@pytest.mark.parametrize("kind", ["logistic", "mlp"])
@pytest.mark.parametrize("name", ["resnet10t", "squeezenet1_1"])
def test_a_fitted_head_makes_a_classifier_that_is_saved_and_loaded(
    tmp_path: Path, tiny_splits: Splits, kind: str, name: str
) -> None:
    settings = SMALL.model_copy(update={"name": name})
    classifier = adapt(settings, tiny_splits.train).classifier
    extractor = make_extractor(classifier, tiny_splits.train, TRAIN)
    train, held = (extract(extractor, part) for part in (tiny_splits.train, tiny_splits.validation))
    head = HeadSettings(kinds=(kind,), strengths=(0.1,), hidden=8)  # type: ignore[arg-type]
    trained = with_head(classifier, fit_heads(train, held, head)[0])
    save_classifier(trained, tmp_path)
    logits = predict(trained, tiny_splits.validation).logits
    assert (logits == predict(load_classifier(tmp_path), tiny_splits.validation).logits).all()
    from glasshouse.training.heads import head_logits

    expected = head_logits(fit_heads(train, held, head)[0].layers, held.values)
    assert abs(logits - expected).max() < 0.05 * abs(expected).max()


def test_only_the_head_moves_and_frozen_bytes_stay_equal(tiny_splits: Splits) -> None:
    net, setup = course_for(tiny_splits)
    transfer = TransferSettings(trainable="head")
    state = begin_transfer(net, TRAIN, transfer, CPU)
    before = state_of(state.net)
    for _ in train_transfer(state, setup, transfer):
        pass
    assert changed(before, state_of(state.net)) == {"body.fc.weight", "body.fc.bias"}
    assert changed(before, state_of(net)) == set()


def test_batch_statistics_are_frozen_on_request(tiny_splits: Splits) -> None:
    net, setup = course_for(tiny_splits)
    for moving in (True, False):
        transfer = TransferSettings(batch_statistics=moving)
        state = begin_transfer(net, TRAIN, transfer, CPU)
        before = state_of(state.net)
        for record in train_transfer(state, setup, transfer):
            if isinstance(record, Epoch):
                break
        found = changed(before, state_of(state.net))
        assert any("running_mean" in name for name in found) == moving
        assert "body.layer1.0.conv1.weight" in found


def test_gradual_goes_from_the_head_to_everything(tiny_splits: Splits) -> None:
    assert [trainable_now(GRADUAL, e, 7) for e in range(7)] == (
        ["head"] * 3 + ["last-1"] * 2 + ["all"] * 2
    )
    net, setup = course_for(tiny_splits)
    state = begin_transfer(net, TRAIN, GRADUAL, CPU)
    seen = []
    before = state_of(state.net)
    for record in train_transfer(state, setup, GRADUAL):
        if isinstance(record, Epoch):
            after = state_of(state.net)
            seen.append({name.split(".")[1] for name in changed(before, after)})
            before = after
    assert seen[0] == {"fc"}
    assert seen[1] == {"layer4", "fc"}
    assert seen[2] >= {"conv1", "layer1", "layer4", "fc"}


def test_layers_that_join_later_have_a_lower_learning_rate(tiny_splits: Splits) -> None:
    net, setup = course_for(tiny_splits)
    factors = rate_factors(net, GRADUAL)
    assert factors["body.fc.weight"] == 1
    assert factors["body.layer4.0.conv1.weight"] == 0.5
    assert factors["body.conv1.0.weight"] == 0.25
    state = begin_transfer(net, TRAIN, GRADUAL, CPU)
    next(iter(train_transfer(state, setup, GRADUAL)))
    assert {group["lr"] for group in state.optimizer.param_groups} == {1e-3, 5e-4, 2.5e-4}


def test_resuming_gradual_unfreezing_ends_with_the_same_bytes(
    tmp_path: Path, tiny_splits: Splits
) -> None:
    net, setup = course_for(tiny_splits)
    whole = begin_transfer(net, TRAIN, GRADUAL, CPU)
    for _ in train_transfer(whole, setup, GRADUAL):
        pass
    stopped = begin_transfer(net, TRAIN, GRADUAL, CPU)
    for record in train_transfer(stopped, setup, GRADUAL):
        if isinstance(record, Step) and (record.epoch, record.step) == (2, 3):
            break
    save_checkpoint(stopped, tmp_path)
    again = begin_transfer(net, TRAIN, GRADUAL, CPU)
    assert load_checkpoint(again, tmp_path)
    for _ in train_transfer(again, setup, GRADUAL):
        pass
    assert changed(state_of(whole.net), state_of(again.net)) == set()


def test_the_stages_are_described_with_their_epochs(tiny_splits: Splits) -> None:
    net, _ = course_for(tiny_splits)
    lines = describe_stages(net, GRADUAL, 3)
    assert lines[0].startswith("epochs 1 to 1: trainable: body.fc (2,052 of")
    assert lines[2].startswith("epochs 3 to 3: trainable: everything")
    assert describe_stages(net, TransferSettings(trainable="head"), 3)[0].startswith("trainable: b")
    assert all(p.requires_grad for p in net.parameters())


def test_rare_classes_have_a_larger_weight_on_request(tiny_splits: Splits) -> None:
    net, setup = course_for(tiny_splits, TRAIN.model_copy(update={"epochs": 1}))
    transfer = TransferSettings(trainable="head")
    heads = []
    for weights in (None, (1.0, 1.0, 1.0, 1.0), (4.0, 0.0, 0.0, 0.0)):
        state = begin_transfer(net, TRAIN, transfer, CPU)
        given = replace(setup, class_weights=weights)
        next(iter(train_transfer(state, given, transfer)))
        heads.append(state.net.get_parameter("body.fc.bias").detach().clone())
    assert torch.allclose(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2])


def test_a_pretrained_net_is_trained_in_one_call(tiny_splits: Splits) -> None:
    from glasshouse.settings import ModelSettings

    classifier, history = train_classifier(
        ModelSettings(pretrained=SMALL), tiny_splits, TRAIN.model_copy(update={"epochs": 1})
    )
    assert len(history) == 1
    assert (classifier.architecture or {})["input_size"] == 32


@pytest.mark.parametrize(
    ("transfer", "epochs", "parts"),
    [
        (TransferSettings(way="tune", trainable="last-2"), 2, ["last-2", "last-2"]),
        (TransferSettings(way="features"), 2, ["head", "head"]),
        (GRADUAL, 1, ["head"]),
        (GRADUAL, 2, ["head", "last-1"]),
        (GRADUAL, 3, ["head", "last-1", "all"]),
        (GRADUAL, 4, ["head", "head", "last-1", "all"]),
        (GRADUAL, 6, ["head", "head", "last-1", "last-1", "all", "all"]),
    ],
)
def test_stages_share_the_epochs(transfer: TransferSettings, epochs: int, parts: list[str]) -> None:
    assert [trainable_now(transfer, epoch, epochs) for epoch in range(epochs)] == parts
    # A run of which more epochs are asked for stays at its last stage.
    assert trainable_now(GRADUAL, 9, 3) == "all"


def test_a_range_of_epochs_is_told_by_its_first_and_last(tiny_splits: Splits) -> None:
    net, _ = course_for(tiny_splits)
    lines = describe_stages(net, GRADUAL, 6)
    assert [line.partition(": ")[0] for line in lines] == [
        "epochs 1 to 2", "epochs 3 to 4", "epochs 5 to 6"
    ]  # fmt: skip
    (line,) = describe_stages(net, TransferSettings(trainable="head"), 6)
    assert line == lines[0].partition(": ")[2]


def test_a_network_starts_as_in_its_first_epoch_and_the_given_one_stays(
    tiny_splits: Splits,
) -> None:
    net, _ = course_for(tiny_splits)
    own = starting_net(net, GRADUAL, 3)
    trained = {name for name, p in own.named_parameters() if p.requires_grad}
    assert trained == {"body.fc.weight", "body.fc.bias"}
    assert all(p.requires_grad for p in net.parameters())
    state = begin_transfer(net, TRAIN, GRADUAL, CPU)
    # All that is ever trained is in the optimizer from the start, by its factor.
    assert [group["lr_factor"] for group in state.optimizer.param_groups] == [1.0, 0.5, 0.25]
    assert {n for n, p in state.net.named_parameters() if p.requires_grad} == trained
    only_last = GRADUAL.model_copy(update={"unfreeze": ("head", "last-1")})
    factors = rate_factors(net, only_last)
    assert set(factors.values()) == {1.0, 0.5} and "body.conv1.0.weight" not in factors


def test_after_the_last_epoch_nothing_is_frozen_or_unfrozen(
    tiny_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    known = freeze

    def noted(net: nn.Module, trainable: str, **how: Any) -> Any:
        chosen.append(trainable)
        return known(net, trainable, **how)

    net, setup = course_for(tiny_splits)
    state = begin_transfer(net, TRAIN, GRADUAL, CPU)
    monkeypatch.setattr("glasshouse.training.transfer.freeze", noted)
    for _ in train_transfer(state, setup, GRADUAL):
        pass
    assert chosen == ["head", "last-1", "all"]
