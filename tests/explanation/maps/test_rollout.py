import copy
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from glasshouse.errors import ModelError
from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.graph.attention import Attention, attention_layers, last_attention
from glasshouse.explanation.graph.recording import record
from glasshouse.explanation.inputs import as_inputs
from glasshouse.explanation.maps.rollout import (
    attention_rollout,
    gradient_rollout,
    read_tokens,
    relevance,
)
from glasshouse.explanation.methods import ROLLOUTS, ExplainSettings
from glasshouse.explanation.pipeline import MapRequest, explain_image, sheet_methods
from glasshouse.models.classifier import Classifier, Preprocessing
from tests.explanation.nets import NAMES, classifier_of, pooled_net, relative, some_images
from tests.explanation.token_nets import PATCHES, TOKEN_SIDE, LastAxisNet, TokenNet, seeded


def classifier_for(net: nn.Module, side: int = TOKEN_SIDE) -> Classifier:
    return Classifier(net, Preprocessing(side, side), NAMES)


def images(count: int = 2) -> np.ndarray:
    return some_images(count, side=TOKEN_SIDE)


def by_hand(classifier: Classifier, targets: np.ndarray) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and gradients of a net without fused attention, from softmax's own result."""
    kept: list[Tensor] = []
    softmax = Tensor.softmax

    def keeping(self: Tensor, dim: int) -> Tensor:
        kept.append(softmax(self, dim))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "softmax", keeping)
        logits = classifier.net(as_inputs(classifier, images()))
    score = logits[torch.arange(len(logits)), torch.from_numpy(targets)].sum()
    return kept, list(torch.autograd.grad(score, kept))


def test_the_weights_of_fused_attention_are_those_of_separate_operations() -> None:
    fused, separate = (
        classifier_for(seeded(TokenNet, is_fused=is_fused)) for is_fused in (True, False)
    )
    targets = np.array([0, 1])
    weights, slopes = by_hand(separate, targets)
    recording = record(fused.net, as_inputs(fused, images()))
    layers = attention_layers(recording.logits)
    assert len(layers) == 2 and all(layer.is_plain for layer in layers)
    score = recording.logits[[0, 1], [0, 1]].sum()
    found = torch.autograd.grad(score, [layer.edge for layer in layers], retain_graph=True)
    for layer, each, weight, slope in zip(layers, found, weights, slopes, strict=True):
        assert layer.edge.node.name().startswith("ScaledDotProduct")
        assert relative(layer.weights(), weight.detach()) < 1e-5
        assert relative(layer.gradient(each), slope) < 1e-4


@pytest.mark.parametrize("kind", ["causal", "added", "chosen"])
def test_masked_attention_is_read_with_its_mask(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 5, 4, generator=generator).requires_grad_()
    chosen = torch.rand(5, 5, generator=generator) > 0.4
    chosen |= torch.eye(5, dtype=torch.bool)
    added = torch.randn(5, 5, generator=generator)
    scores = query @ key.transpose(-2, -1) / 2
    below = torch.ones(5, 5, dtype=torch.bool).tril()
    masks: dict[str, tuple[dict[str, Any], Tensor]] = {
        "causal": ({"is_causal": True}, scores.masked_fill(~below, -torch.inf)),
        "added": ({"attn_mask": added}, scores + added),
        "chosen": ({"attn_mask": chosen}, scores.masked_fill(~chosen, -torch.inf)),
    }
    options, scores = masks[kind]
    mixed = functional.scaled_dot_product_attention(query, key, value, **options)
    (layer,) = attention_layers(mixed.sum((1, 2)))
    assert layer.edge.node.name().startswith("ScaledDotProduct")
    assert layer.is_plain
    torch.testing.assert_close(layer.weights(), scores.softmax(-1).detach())


@pytest.mark.parametrize("is_fused", [True, False])
@pytest.mark.parametrize(("before", "after"), [(1, 0), (5, 0), (0, 0), (1, 3)])
def test_both_rollouts_are_those_of_their_papers(is_fused: bool, before: int, after: int) -> None:
    shape = {"before": before, "after": after}
    classifier = classifier_for(seeded(TokenNet, is_fused=is_fused, **shape))
    rollout, weighted = explain_page(classifier, images(), methods=ROLLOUTS).explanations
    twin = classifier_for(seeded(TokenNet, is_fused=False, **shape))
    weights, slopes = by_hand(twin, rollout.targets)
    one = torch.eye(weights[0].shape[-1])
    flow, relevance = one, one
    for weight, slope in zip(weights, slopes, strict=True):
        flow = (weight.mean(1) + one) / 2 @ flow
        relevance = relevance + (weight * slope).clamp(min=0).mean(1) @ relevance
    for found, expected in ((rollout, flow), (weighted, relevance - one)):
        rows = expected[:, 0] if before else expected.mean(1)
        own = rows[:, before : before + PATCHES**2].view(-1, PATCHES, PATCHES)
        assert found.maps.shape == (2, PATCHES, PATCHES) and found.layer is None and found.is_cam
        assert relative(found.maps, own.detach()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rollouts_in_half_precision_are_nearly_those_of_the_same_weights(
    dtype: torch.dtype,
) -> None:
    exact = classifier_for(seeded(TokenNet))
    half = Classifier(copy.deepcopy(exact.net).to(dtype), exact.preprocessing, NAMES)
    found, expected = (
        explain_page(each, images(), methods=ROLLOUTS, target_class=[0, 1]).explanations
        for each in (half, exact)
    )
    for one, other in zip(found, expected, strict=True):
        assert one.maps.dtype == np.float32
        assert relative(one.maps, torch.from_numpy(other.maps)) < 0.05


def test_reading_attention_leaves_the_answer_as_it_is() -> None:
    classifier = classifier_for(seeded(TokenNet))
    with torch.no_grad():
        expected = classifier.net(as_inputs(classifier, images()))
    page = explain_page(classifier, images(), methods=ROLLOUTS)
    np.testing.assert_allclose(page.logits, expected, rtol=1e-6, atol=1e-7)


def test_attention_rollout_is_independent_of_the_class_and_the_other_is_not() -> None:
    classifier = classifier_for(seeded(TokenNet))
    some, others = (
        explain_page(classifier, images(), methods=ROLLOUTS, target_class=target).explanations
        for target in (0, 1)
    )
    np.testing.assert_array_equal(some[0].maps, others[0].maps)
    assert relative(some[1].maps, others[1].maps) > 1e-3


def test_the_rows_of_attention_rollout_sum_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(2, 3, 5, 5, generator=generator).softmax(-1) for _ in range(3)]
    read = torch.full((2, 5), 0.2)
    assert torch.allclose(attention_rollout(weights, read).sum(1), torch.ones(2))
    # A last layer with a query of its own, as in attention pooling, has no skip connection.
    pooling = torch.rand(2, 3, 1, 5, generator=generator).softmax(-1)
    pooled = attention_rollout([*weights, pooling], torch.ones(2, 1))
    assert torch.allclose(pooled.sum(1), torch.ones(2))
    slopes = [torch.ones_like(each) for each in (*weights, pooling)]
    own = torch.eye(5) + weights[0].mean(1)
    for each in weights[1:]:
        own = own + each.mean(1) @ own
    expected = (pooling.mean(1) @ own)[:, 0]
    found = gradient_rollout(map(relevance, [*weights, pooling], slopes), torch.ones(2, 1))
    assert torch.allclose(found, expected, rtol=1e-5)


class GroupedHeads(nn.Module):
    """Four heads of queries, of which two share their keys and values."""

    def __init__(self, *, is_fused: bool) -> None:
        super().__init__()
        self.embed, self.head, self.is_fused = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 5), is_fused
        self.keys, self.values = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        query, key, value = (
            each.view(len(x), -1, each.shape[-1] // 4, 4).transpose(1, 2)
            for each in (tokens, self.keys(tokens), self.values(tokens))
        )
        if self.is_fused:
            found = functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
        else:
            key, value = (each.repeat_interleave(2, 1) for each in (key, value))
            found = (query @ key.transpose(-2, -1) / 2).softmax(-1) @ value
        logits: Tensor = self.head((found.transpose(1, 2).flatten(2) + tokens).mean(1))
        return logits


def test_heads_that_share_keys_and_values_have_the_rollouts_of_separate_ones() -> None:
    fused, separate = (
        explain_page(
            classifier_for(seeded(GroupedHeads, is_fused=each)), images(), methods=ROLLOUTS
        )
        for each in (True, False)
    )
    for one, other in zip(fused.explanations, separate.explanations, strict=True):
        assert relative(one.maps, torch.from_numpy(other.maps)) < 1e-5


def test_the_tokens_that_the_head_reads_share_equally() -> None:
    gradient = torch.zeros(2, 3, 4, 4)
    gradient[0, 1, 2, 3] = gradient[0, 2, 0] = -1
    assert read_tokens(gradient).tolist() == [[0.5, 0, 0.5, 0], [0, 0, 0, 0]]


class MixedHeads(nn.Module):
    """Mixes the heads' weights before they are used, as CaiT's talking heads do."""

    def __init__(self, *, is_parallel: bool) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(2, 2), nn.Linear(8, 5)
        self.is_parallel = is_parallel

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        heads = tokens.view(len(x), -1, 2, 4).transpose(1, 2)
        weights = (heads @ heads.transpose(-2, -1)).softmax(-1)
        if self.is_parallel:
            mixed = weights @ heads + (-heads @ heads.transpose(-2, -1)).softmax(-1) @ heads
        else:
            mixed = self.mix(weights.movedim(1, -1)).movedim(-1, 1) @ heads
        logits: Tensor = self.head(mixed.transpose(1, 2).flatten(2).mean(1))
        return logits


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: seeded(LastAxisNet), "this network has none: use grad-cam"),
        (lambda: seeded(MixedHeads, is_parallel=False), "changes them between the softmax"),
        (lambda: seeded(MixedHeads, is_parallel=True), "run side by side"),
        (
            lambda: seeded(TokenNet, order=torch.arange(PATCHES**2).flip(0)),
            "37 tokens of this network lie over the image could not be found",
        ),
    ],
)
def test_what_a_rollout_is_not_defined_for_is_refused(net: object, said: str) -> None:
    assert callable(net)
    classifier = classifier_for(net())
    for method in ROLLOUTS:
        with pytest.raises(ModelError, match=said):
            explain_page(classifier, images(), methods=[method])
    assert not {*ROLLOUTS} & {*sheet_methods(classifier, images()[0])}


def test_windows_of_tokens_are_refused() -> None:
    class Windows(TokenNet):
        def forward(self, x: Tensor) -> Tensor:
            halves = torch.cat([x[..., :TOKEN_SIDE], x[..., TOKEN_SIDE:]])
            logits: Tensor = super().forward(halves).view(2, len(x), -1).mean(0)
            return logits

    net = Classifier(seeded(Windows), Preprocessing(TOKEN_SIDE, 2 * TOKEN_SIDE), NAMES)
    wide = np.concatenate([images(), images()], 3)
    with pytest.raises(ModelError, match=r"over the same tokens of the whole image.*37x37"):
        explain_page(net, wide, methods=["attention-rollout"])


def test_rollouts_are_on_the_sheet_of_a_transformer_and_relu_rules_are_not() -> None:
    classifier = classifier_for(seeded(TokenNet))
    found = sheet_methods(classifier, images()[0])
    assert {*ROLLOUTS} < {*found} and not {"guided", "relu", "guided-grad-cam"} & {*found}
    assert not {*ROLLOUTS} & {*sheet_methods(classifier_of(pooled_net()), some_images(1)[0])}
    for rule in ("guided", "relu", "guided-grad-cam"):
        with pytest.raises(ModelError, match=r"at ReLUs, but this network has none"):
            explain_page(classifier, images(), methods=[rule])


def test_a_checked_page_of_a_transformer_has_every_method_that_suits_it() -> None:
    classifier = classifier_for(seeded(TokenNet))
    page = explain_image(classifier, images(1)[0], MapRequest(has_slow=False))
    methods = {each.method: each for each in page.explanations}
    assert {"saliency", "grad-cam", "eigen-cam", *ROLLOUTS} <= {*methods}
    words = " ".join(check.words for check in methods["attention-rollout"].checks)
    assert "Independent of the class: it shows what dominates the network's attention" in words
    assert "From 2 attention layers over 37 tokens." in methods["gradient-rollout"].notes


def test_batches_have_the_rollouts_of_single_images() -> None:
    classifier = classifier_for(seeded(TokenNet))
    small = ExplainSettings(batch_size=1)
    whole = explain_page(classifier, images(3), methods=ROLLOUTS).explanations
    parts = explain_page(classifier, images(3), methods=ROLLOUTS, settings=small).explanations
    for one, other in zip(whole, parts, strict=True):
        assert relative(one.maps, other.maps) < 1e-4


def test_a_softmax_along_another_axis_mixes_tokens_but_has_no_rollout() -> None:
    values = torch.rand(1, 2, 5, 4, requires_grad=True)
    logits = (values.softmax(2) @ values.transpose(2, 3)).sum((1, 2))
    assert last_attention(logits) is not None
    (layer,) = attention_layers(logits)
    assert not layer.is_plain


def test_a_rollout_keeps_the_weights_of_one_layer_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole: list[weakref.ref[Tensor]] = []
    kept: list[int] = []
    original = Attention.weights

    def watched(self: Attention) -> Tensor:
        kept.append(sum(each() is not None for each in whole))
        weights = original(self).clone()
        whole.append(weakref.ref(weights))
        return weights

    monkeypatch.setattr(Attention, "weights", watched)
    explain_page(classifier_for(seeded(TokenNet, depth=5)), images(), methods=ROLLOUTS)
    # Those of the layer before may live until they are replaced.
    assert len(kept) == 10 and max(kept) <= 1
