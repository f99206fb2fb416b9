import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from glasshouse.errors import GlasshouseWarning, ModelError, UsageError
from glasshouse.explanation.explain import explain
from glasshouse.explanation.methods import MethodName
from glasshouse.models.classifier import Classifier, load_classifier, save_classifier
from glasshouse.models.logit_net import as_logit_net
from glasshouse.models.predict import predict
from glasshouse.models.preprocessing import scale
from tests.models.foreign_nets import NAMES, SIZE, Wrapped, images, plain_net
from tests.on_mps import AnsweringOnMps


def inputs() -> Tensor:
    return scale(torch.from_numpy(images()), SIZE)


def classifier_of(net: nn.Module, said: str, names: tuple[str, ...] = NAMES) -> Classifier:
    with pytest.warns(GlasshouseWarning, match=said):
        return Classifier(net, SIZE, names)


class Head(nn.Module):
    """A softmax as a module, inside another module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.last = nn.Linear(32, 3), nn.Softmax(dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        answer: Tensor = self.last(self.linear(features))
        return answer


SOFTMAXES: dict[str, Callable[[Tensor], Any]] = {
    "method": lambda z: z.softmax(1),
    "function": lambda z: functional.softmax(z, dim=-1),
    "torch": lambda z: torch.softmax(z, 1),
    "in double precision": lambda z: functional.softmax(z, 1, dtype=torch.float64),
    "without a dim": lambda z: nn.Softmax2d()(z[:, :, None, None]).flatten(1),
    "with a temperature": lambda z: (z / 1.0).softmax(1).clone().contiguous(),
    "in a dict": lambda z: {"probabilities": z.softmax(1)},
    "in a tuple": lambda z: (z.softmax(1), z.new_zeros(2, 7)),
    "after another": lambda z: (z + 0 * z.softmax(1)).softmax(1),
    "logarithm": lambda z: z.log_softmax(1),
    "logarithm by function": lambda z: functional.log_softmax(z, -1),
}


def on_map(values: Tensor) -> Tensor:
    """Logits at each of nine places, as of a network without a dense layer."""
    return values[:, :, None, None] * torch.linspace(0.5, 1.5, 9).view(3, 3)


@pytest.mark.parametrize("answer", SOFTMAXES.values(), ids=SOFTMAXES.keys())
@pytest.mark.filterwarnings("ignore:The network returns several values")
def test_a_final_softmax_is_left_off_wherever_it_is_written(
    answer: Callable[[Tensor], Any],
) -> None:
    found = classifier_of(Wrapped(answer), "softmax, which is left off").predict(images())
    expected = plain_net()(inputs())
    assert np.allclose(found.logits, expected.detach(), atol=1e-6)
    assert np.allclose(found.probabilities, expected.softmax(1).detach(), atol=1e-6)


def test_a_softmax_in_a_module_within_a_module_is_left_off() -> None:
    body = plain_net()[:-1]
    net = nn.Sequential(body, Head())
    found = classifier_of(net, "softmax, which is left off").predict(images())
    head = net[1]
    assert isinstance(head, Head)
    expected = head.linear(body(inputs()))
    assert np.allclose(found.logits, expected.detach(), atol=1e-6)


def test_maps_of_a_network_with_a_softmax_are_those_of_the_network_without() -> None:
    methods: list[MethodName] = ["grad-cam", "saliency", "integrated-gradients", "occlusion"]
    given = classifier_of(Wrapped(lambda z: z.softmax(1)), "left off")
    plain = Classifier(plain_net(), SIZE, NAMES)
    theirs = explain(given, images(), methods=methods, layer="net.2")
    ours = explain(plain, images(), methods=methods, layer="2")
    for found, expected in zip(theirs, ours, strict=True):
        assert np.allclose(found.maps, expected.maps, atol=1e-6)
        assert np.abs(expected.maps).max() > 1e-4


@pytest.mark.parametrize(
    ("answer", "outputs"),
    [
        (lambda z: z.softmax(1).clamp(1e-6, 1), 3),
        (lambda z: z.softmax(1).clamp_(1e-6, 1), 3),
        (lambda z: {"probabilities": (z.softmax(1) + 1e-7).clamp(max=1)}, 3),
        (lambda z: 100 * z.softmax(1), 3),
        (lambda z: z.softmax(1).clamp(min=1e-30).log(), 3),
        (lambda z: z.log_softmax(1).exp(), 3),
        (lambda z: z.sigmoid().clamp(1e-6, 1 - 1e-6), 1),
        (lambda z: z[:, 0].sigmoid().clamp(1e-6, 1 - 1e-6), 1),
    ],
)
@pytest.mark.filterwarnings("ignore:The network (returns several values|has one output)")
def test_an_activation_is_left_off_with_what_adjusts_its_values(
    answer: Callable[[Tensor], Any], outputs: int
) -> None:
    net, kind = Wrapped(answer, plain_net(outputs)), "softmax" if outputs > 1 else "sigmoid"
    # So certain that the probability is 1 in float32, and has no gradient.
    with torch.no_grad():
        net.net[-1].weight.mul_(300)  # type: ignore[index]
    given = classifier_of(net, f"{kind} and a small change of its values", NAMES[: max(outputs, 2)])
    z = net.net(inputs())
    z = z if outputs > 1 else torch.cat([torch.zeros_like(z), z], 1)
    assert z.softmax(1).max() == 1
    assert np.allclose(given.predict(images()).logits, z.detach(), rtol=1e-5)
    (found,) = explain(given, images(), methods=("saliency",), target_class=1)
    taken = inputs().requires_grad_()
    score = net.net(taken)[:, 1 if outputs > 1 else 0].sum()
    (expected,) = torch.autograd.grad(score, taken)
    assert np.allclose(found.maps, expected.abs().amax(1), rtol=1e-4)
    assert found.maps.max() > 1e-3


def test_negative_logarithms_of_probabilities_are_refused() -> None:
    net = Wrapped(lambda z: -z.log_softmax(1))
    with pytest.raises(ModelError, match="lowest value stands for the most probable class"):
        Classifier(net, SIZE, NAMES)


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: z.exp() / z.exp().sum(1, keepdim=True),
        lambda z: (z.softmax(1) + (z * 1.0).softmax(1)) / 2,
    ],
)
def test_probabilities_of_another_origin_become_logits(answer: Callable[[Tensor], Tensor]) -> None:
    found = classifier_of(Wrapped(answer), "their logarithms are used").predict(images())
    assert np.allclose(found.probabilities, plain_net()(inputs()).softmax(1).detach(), atol=1e-5)


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: z,
        lambda z: z.squeeze(1),
        lambda z: z.squeeze(),
        lambda z: z.sigmoid(),
        lambda z: torch.sigmoid(z).squeeze(),
        lambda z: nn.Sigmoid()(z)[:, 0],
        lambda z: functional.logsigmoid(z),
        lambda z: z.clone().sigmoid_(),
        lambda z: {"logits": z},
    ],
)
@pytest.mark.filterwarnings("ignore:The network returns several values")
@pytest.mark.filterwarnings("ignore:The network ends in a")
def test_one_output_is_that_of_a_sigmoid(answer: Callable[[Tensor], Any]) -> None:
    net = Wrapped(answer, plain_net(outputs=1))
    classifier = classifier_of(net, "high values stand for pos, low values for neg", ("neg", "pos"))
    for count in (1, 3):
        found = classifier.predict(images(count))
        expected = plain_net(outputs=1)(scale(torch.from_numpy(images(count)), SIZE)).sigmoid()
        assert np.allclose(found.probabilities[:, 1], expected[:, 0].detach(), atol=1e-6)
        assert np.allclose(found.probabilities.sum(1), 1)


def test_maps_of_either_class_of_one_output_are_gradients_of_its_value() -> None:
    classifier = classifier_of(plain_net(outputs=1), "one output", ("neg", "pos"))
    high = explain(classifier, images(), methods="saliency", target_class="pos")[0]
    low = explain(classifier, images(), methods="saliency", target_class="neg")[0]
    given = inputs().requires_grad_()
    plain_net(outputs=1)(given).sum().backward()
    assert given.grad is not None
    assert np.allclose(high.maps, given.grad.abs().amax(1), atol=1e-6)
    # The logit of the low class is 0 whatever the image: what speaks for it is found in contrasts.
    assert not low.maps.any()


def test_one_output_without_names_has_two_classes() -> None:
    found = classifier_of(
        plain_net(outputs=1), "high values stand for class 1, low values for class 0", ()
    ).predict(images())
    assert found.logits.shape == (3, 2)


@pytest.mark.parametrize(
    ("net", "names", "message"),
    [
        (plain_net(5), NAMES, "returns 5 values per image, but there are 3 classes"),
        (plain_net(2), NAMES, "returns 2 values per image, but there are 3 classes"),
        (plain_net(1), NAMES, "one value per image, .*but there are 3 classes"),
        (plain_net(1), ("cat",), "one value per image, .*but there is one class"),
        (plain_net(3), ("cat",), "returns 3 values per image, but there is 1 class"),
        (Wrapped(lambda z: z.sigmoid()), NAMES, "ends in a sigmoid of 3 outputs"),
        (Wrapped(lambda z: 1 / (1 + (-z).exp())), NAMES, "do not sum to 1"),
        (Wrapped(functional.hardsigmoid), NAMES, "do not sum to 1"),
        (Wrapped(lambda z: z.softmax(0)), NAMES, r"over the images of a batch \(dim=0\)"),
        (Wrapped(torch.tanh, plain_net(1)), ("a", "b"), r"operation \(Tanh\) that limits"),
        (Wrapped(lambda z: z.relu(), plain_net(1)), ("a", "b"), r"\(Relu\) that limits"),
        (Wrapped(lambda z: z.softmax(1), plain_net(1)), ("a", "b"), "always the same"),
        (
            Wrapped(lambda z: on_map(z).sigmoid().mean((2, 3)), plain_net(1)),
            ("a", "b"),
            r"\(Sigmoid\) that limits",
        ),
        (Wrapped(lambda z: on_map(z).sigmoid().amax((2, 3))), NAMES, "they come from Sigmoid"),
        (
            Wrapped(lambda z: (z.sigmoid() + (2 * z).sigmoid()) / 2, plain_net(1)),
            ("a", "b"),
            r"\(Sigmoid\) that limits",
        ),
        (Wrapped(lambda z: z.sigmoid() * (2 * z).sigmoid()), NAMES, "they come from Sigmoid"),
        (Wrapped(lambda z: z[:, :, None, None].expand(-1, -1, 4, 4)), NAMES, "received the shape"),
        (Wrapped(lambda z: {"a": z, "b": z}), NAMES, r"received a dict \(a: \(2, 3\), b: \(2, 3\)"),
        (Wrapped(lambda z: None), NAMES, "received None"),
        (Wrapped(lambda z: z.argmax(1)), NAMES, "received int64 values .* before argmax"),
        (Wrapped(lambda z: (10 * z).int()), NAMES, r"received int32 values \(2, 3\)"),
        (Wrapped(torch.fft.fft), NAMES, r"received complex64 values .* their abs\(\) or their"),
        (Wrapped(lambda z: functional.one_hot(z.argmax(1), 3).float()), NAMES, "returns decisions"),
        (Wrapped(lambda z: 1 - (z > 9).float(), plain_net(1)), ("a", "b"), "returns decisions"),
        (
            Wrapped(lambda z: z, plain_net(3)[:-1].append(nn.Linear(32, 3).half())),
            NAMES,
            "RuntimeError: mat1 and mat2",
        ),
        (
            plain_net(3)[:-1].append(nn.Linear(32, 3).half()),
            NAMES,
            "weights are float16, but its input is float32",
        ),
        (plain_net(channels=4), NAMES, "takes images of 4 channels, but images have three"),
        (nn.Sequential(nn.Flatten(), nn.Linear(50, 3)), NAMES, "in_features is 50, expected 432"),
        (nn.Sequential(nn.Conv2d(3, 3, 13), nn.Flatten()), NAMES, "layer 0 .Conv2d. does not"),
    ],
)
def test_a_network_that_cannot_be_read_is_refused_when_the_classifier_is_made(
    net: nn.Module, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Classifier(net, SIZE, names)


def test_what_is_no_network_with_weights_is_refused() -> None:
    for given in (nn.Linear, lambda images: images):
        with pytest.raises(UsageError, match=r"expected a network, which is a torch.nn.Module"):
            Classifier(given, SIZE, NAMES)  # type: ignore[arg-type]
    images_in = torch.zeros(2, 3, 12, 12)
    exported = torch.export.export(plain_net(), (images_in,)).module()
    with pytest.raises(ModelError, match=r"pass the nn\.Module that was exported"):
        Classifier(exported, SIZE, NAMES)
    with torch.device("meta"):
        empty = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))
    with pytest.raises(ModelError, match="on the meta device, without values"):
        Classifier(empty, SIZE, NAMES).predict(images())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_answer_in_float32(dtype: torch.dtype) -> None:
    classifier = Classifier(plain_net().to(dtype), SIZE, NAMES)
    found = classifier.predict(images())
    assert found.logits.dtype == np.float32
    expected = plain_net().to(dtype)(inputs().to(dtype)).float().detach()
    assert np.array_equal(found.logits, expected)
    methods: list[MethodName] = ["grad-cam", "eigen-cam", "guided", "saliency", "occlusion"]
    exact = explain(Classifier(plain_net(), SIZE, NAMES), images(), methods=methods, layer="2")
    for maps, wanted in zip(
        explain(classifier, images(), methods=methods, layer="2"), exact, strict=True
    ):
        assert maps.maps.dtype == np.float32
        largest = np.abs(wanted.maps).max()
        # Sums of squares in half precision; the median says that the maps are the same.
        assert np.median(np.abs(maps.maps - wanted.maps)) < 0.05 * largest


def test_one_channel_gets_luminance() -> None:
    classifier = classifier_of(plain_net(channels=1), "receives the luminance")
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (inputs() * weights).sum(1, keepdim=True)
    expected = plain_net(channels=1)(grey).detach()
    assert np.allclose(classifier.predict(images()).logits, expected, atol=1e-6)


def test_a_dense_network_of_grey_images_gets_luminance() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    found = classifier_of(net, "receives the luminance").predict(images())
    assert found.logits.shape == (3, 3)


@dataclass
class Answer:
    logits: Tensor
    loss: Tensor | None = None


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


ANSWERS: dict[str, Callable[[Tensor], Any]] = {
    "dict": lambda z: {"features": z * 2, "logits": z},
    "ordered": lambda z: OrderedDict(out=z),
    "tuple": lambda z: (z, z * 2),
    "tuple with features first": lambda z: (z.new_zeros(len(z), 9), z),
    "dataclass": lambda z: Answer(z),
    "namedtuple": lambda z: Named(z * 2, z),
    "four axes": lambda z: z[:, :, None, None],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.filterwarnings("ignore:The network returns several values")
def test_logits_are_found_in_the_answer(answer: Callable[[Tensor], Any]) -> None:
    found = Classifier(Wrapped(answer), SIZE, NAMES).predict(images())
    assert np.allclose(found.logits, plain_net()(inputs()).detach(), atol=1e-6)


def test_a_network_that_writes_into_its_input_gets_a_copy() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain_net()

        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = self.net(images.sub_(0.5))
            return answer

    classifier = Classifier(Own(), SIZE, NAMES)
    given = inputs()
    classifier.net(given)
    assert torch.equal(given, inputs())
    expected = plain_net()(inputs() - 0.5).detach()
    assert np.allclose(classifier.predict(images()).logits, expected, atol=1e-6)
    assert explain(classifier, images(), methods=("occlusion", "saliency"))[0].maps.any()


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: torch.cat([z[:, :1], z[:, 1:]], 1),
        lambda z: z.sigmoid().logit(),
        lambda z: on_map(z).amax((2, 3)),
        lambda z: functional.adaptive_max_pool2d(on_map(z), 1).flatten(1),
        lambda z: z[:, [0, 1, 2]],
        lambda z: z * (9 * z).sigmoid(),
    ],
)
def test_logits_that_are_between_0_and_1_by_chance_are_logits(
    answer: Callable[[Tensor], Tensor],
) -> None:
    net = Wrapped(lambda z: answer(z / 100 + 0.5))
    found = Classifier(net, SIZE, NAMES).predict(images()).logits
    with torch.no_grad():
        expected = net(scale(torch.from_numpy(images()), SIZE))
    assert ((expected > 0) & (expected < 1)).all()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_that_returns_logits_is_used_as_it_is() -> None:
    net = plain_net()
    assert as_logit_net(net, SIZE, NAMES) is net


@pytest.mark.filterwarnings("ignore:The network's answers are random")
def test_the_network_and_the_random_state_are_left_as_they_were() -> None:
    net = Wrapped(lambda z: functional.dropout(z, 0.5).softmax(1)).train()
    conv, norm = list(net.net.children())[:2]
    conv.eval()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    read = classifier_of(net, "left off").net
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training and norm.training and not conv.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net(inputs()).sum(1).allclose(torch.ones(3))
    assert [name for name, _ in read.named_modules()] == [name for name, _ in net.named_modules()]


def test_copies_and_pickles_return_logits_as_well() -> None:
    net = plain_net(outputs=1)
    read = classifier_of(net, "one output", ("neg", "pos")).net
    expected = read(inputs())
    for other in (copy.deepcopy(read), copy.copy(read), pickle.loads(pickle.dumps(read))):
        assert torch.equal(other(inputs()), expected)
        assert isinstance(other, nn.Sequential)
        assert other[:3](inputs()).shape == (3, 8, 12, 12)
    independent = copy.deepcopy(read)
    with torch.no_grad():
        next(independent.parameters()).zero_()
    assert torch.equal(read(inputs()), expected)


def test_a_saved_classifier_of_such_a_network_is_loaded_with_it(tmp_path: Any) -> None:
    net = Wrapped(lambda z: z.softmax(1))
    own = classifier_of(net, "left off")
    save_classifier(own, tmp_path)
    with pytest.warns(GlasshouseWarning, match="left off"):
        again = load_classifier(tmp_path, net=Wrapped(lambda z: z.softmax(1)))
    assert np.array_equal(predict(again, images()).logits, predict(own, images()).logits)


def test_what_was_said_is_not_said_again() -> None:
    own = classifier_of(Wrapped(lambda z: z.softmax(1)), "left off")
    again = Classifier(own.net, SIZE, ("x", "y", "z"), temperature=2.0)
    assert again.net is own.net


def test_a_scripted_network_that_must_be_read_is_refused() -> None:
    with pytest.warns((DeprecationWarning, FutureWarning), match="jit.trace"):
        scripted = torch.jit.trace(  # type: ignore[no-untyped-call]
            Wrapped(lambda z: z.softmax(1)).eval(), inputs()
        )
    with pytest.raises(ModelError, match=r"pass the\s+nn.Module that torch.jit was given"):
        Classifier(scripted, SIZE, NAMES)


def test_with_thresholds_a_sigmoid_of_every_output_is_left_off() -> None:
    with pytest.warns(GlasshouseWarning, match="sigmoid, which is left off"):
        several = Classifier(Wrapped(torch.sigmoid), SIZE, NAMES, thresholds=(0.5,) * 3)
    expected = plain_net()(inputs())
    assert np.allclose(several.predict(images()).probabilities, expected.sigmoid().detach())
    one = Classifier(plain_net(1), SIZE, ("cat",), thresholds=(0.5,))
    assert one.predict(images()).logits.shape == (3, 1)
    with pytest.raises(ModelError, match="one class is right, but the classifier has thresholds"):
        Classifier(Wrapped(lambda z: z.softmax(1)), SIZE, NAMES, thresholds=(0.5,) * 3)


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: functional.dropout(z, 0.5),
        lambda z: functional.gumbel_softmax(z, dim=1),
        lambda z: z + torch.rand_like(z),
    ],
)
@pytest.mark.filterwarnings("ignore:The network returns probabilities")
def test_answers_that_are_random_are_said_to_be(answer: Callable[[Tensor], Tensor]) -> None:
    # One time in eight, dropout would leave the same of three values in two passes.
    torch.manual_seed(0)
    classifier_of(Wrapped(answer), "answers are random: the same image has another one each time")


class Centred(nn.Module):
    """Features from which the mean of the batch is taken."""

    def forward(self, values: Tensor) -> Tensor:
        return values - values.mean(0, keepdim=True)


def test_answers_that_depend_on_the_batch_are_said_to() -> None:
    free = plain_net()
    free[1] = nn.BatchNorm2d(8, track_running_stats=False)
    classifier_of(free, r"other images of its batch: layer 1 has no running statistics\.")
    centred = nn.Sequential(plain_net(), Centred())
    classifier_of(centred, r"depends on the other images of its batch\.")


def test_layers_that_a_network_keeps_in_training_mode_are_evaluated() -> None:
    class Stubborn(nn.Sequential):
        def train(self, mode: bool = True) -> "Stubborn":
            super().train(True)
            return self

    net = Stubborn(*plain_net())
    before = copy.deepcopy(net.state_dict())
    found = Classifier(net, SIZE, NAMES).predict(images()).logits
    assert np.allclose(found, plain_net()(inputs()).detach(), atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: (z > 99).float(),
        lambda z: functional.gumbel_softmax(z, dim=1, hard=True),
        lambda z: functional.one_hot(z.argmax(1), 3) - z.softmax(1).detach() + z.softmax(1),
        lambda z: z.sign(),
        lambda z: z.sigmoid().round(),
    ],
)
def test_decisions_are_refused_also_with_a_gradient_or_all_zero(
    answer: Callable[[Tensor], Tensor],
) -> None:
    with pytest.raises(ModelError, match="returns decisions, 0 or 1"):
        Classifier(Wrapped(answer), SIZE, NAMES)


def test_a_head_of_zeros_is_no_decision() -> None:
    net = plain_net()
    for each in net[-1].parameters():
        nn.init.zeros_(each)
    assert not Classifier(net, SIZE, NAMES).predict(images()).logits.any()


def test_absolute_values_between_0_and_1_are_logits() -> None:
    net = Wrapped(lambda z: torch.complex(z / 100, z / 50).abs())
    found = Classifier(net, SIZE, NAMES).predict(images()).logits
    assert np.allclose(found, net(inputs()).detach(), atol=1e-6)


def test_a_network_may_squeeze_its_answer_for_one_image() -> None:
    classifier = Classifier(Wrapped(lambda z: z.squeeze()), SIZE, NAMES)
    expected = plain_net()(inputs())[:1].detach()
    assert np.allclose(classifier.predict(images(1)).logits, expected, atol=1e-6)


def test_a_network_that_takes_no_single_image_is_refused() -> None:
    def answer(logits: Tensor) -> Tensor:
        if len(logits) == 1:
            raise ValueError("expected more than one")
        return logits

    with pytest.raises(ModelError, match=r"not a single one .ValueError: expected more than one"):
        Classifier(Wrapped(answer), SIZE, NAMES)


def test_a_lazy_network_is_read_and_can_be_trained_afterwards() -> None:
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3), nn.Softmax(1))
    classifier = classifier_of(net, "softmax, which is left off")
    found = classifier.predict(images())
    net(inputs()).log().sum().backward()
    assert np.allclose(found.probabilities, net(inputs()).detach(), atol=1e-6)


def test_a_network_of_several_inputs_is_told_what_to_do() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor, metadata: Tensor) -> Tensor:
            return images.mean((2, 3)) + metadata

    with pytest.raises(ModelError, match=r"'metadata'\).*wrap another one in a module that adds"):
        Classifier(Two(), SIZE, NAMES)


def test_a_network_is_read_where_its_device_has_no_float64() -> None:
    net = AnsweringOnMps(plain_net())
    assert as_logit_net(net, SIZE, NAMES) is net
