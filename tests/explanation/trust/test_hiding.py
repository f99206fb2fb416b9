"""What hiding the marked area does to the answer, and which map to begin with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glasshouse.explanation.explain import explain_page
from glasshouse.explanation.nouns import Check, Explanation
from glasshouse.explanation.pipeline import MapRequest, explain_image
from glasshouse.explanation.trust.checks import check_all
from glasshouse.explanation.trust.hiding import (
    ELSEWHERE,
    HIDING,
    Hiding,
    _verdict as verdict_on,
    check_hiding,
    hide,
    hiding_details,
    hiding_sentence,
    marked_area,
)
from glasshouse.explanation.trust.lead import doubts_of, lead_of
from glasshouse.models.predict import logits_of
from tests.explanation.nets import NAMES, classifier_of, module_net, some_images
from tests.explanation.trust.test_trust import CornerNet
from tests.on_mps import AnsweringOnMps

MEASURED = Hiding(
    name="cat",
    before=0.91,
    after=0.03,
    answer="cat",
    answer_after="dog",
    elsewhere=(0.9, 0.8, 0.9, 0.8, 0.9, 0.8, 0.9, 0.8),
    changed_elsewhere=0,
    area=0.2,
)
STAYS = replace(MEASURED, answer_after="cat")

SENTENCES = [
    (
        MEASURED,
        "It answers cat mainly because of the marked area: hiding it changes the answer to dog.",
    ),
    (
        replace(MEASURED, changed_elsewhere=3),
        "Hiding the marked area changes the answer from cat to dog, but hiding an equal area "
        "elsewhere also changes it in 3 of 8 places: the reason is not in the marked area alone.",
    ),
    (
        replace(STAYS, after=0.74),
        "Hiding the marked area lowers cat from 91 % to 74 %; it still answers cat.",
    ),
    (
        replace(STAYS, after=0.85),
        "Hiding the marked area lowers cat from 91 % to 85 %; it still answers cat, and hiding an "
        "equal area elsewhere lowers it about as much on average.",
    ),
    (
        replace(STAYS, after=0.82),
        "Hiding the marked area lowers cat from 91 % to 82 %; it still answers cat, and hiding an "
        "equal area elsewhere lowers it about as much on average.",
    ),
    (
        replace(STAYS, after=0.9),
        "The answer cat does not depend on the marked area alone: with it hidden, cat is still at "
        "90 %.",
    ),
    (
        replace(STAYS, before=0.5, after=0.8),
        "Hiding the marked area makes it more certain of cat (from 50 % to 80 %): it does not need "
        "what this map marks.",
    ),
    (
        replace(MEASURED, before=0.2, answer="dog"),
        "It answers dog, not cat; hiding the marked area lowers cat from 20 % to 3 %.",
    ),
    (
        replace(MEASURED, before=0.2, after=0.4, answer="dog"),
        "It answers dog, not cat; hiding the marked area raises cat from 20 % to 40 %.",
    ),
    (
        replace(MEASURED, before=0.05, answer="dog"),
        "It answers dog, not cat; hiding the marked area hardly changes cat (from 5 % to 3 %).",
    ),
    (
        replace(MEASURED, before=0.002, answer="dog"),
        "Nothing can be judged: cat has a probability of 0.2 %, too low for hiding an area to "
        "lower it.",
    ),
    (
        replace(MEASURED, is_region=False),
        "It answers cat mainly because of the marked pixels: hiding them changes the answer to "
        "dog.",
    ),
    (
        replace(STAYS, after=0.85, is_region=False),
        "Hiding the marked pixels lowers cat from 91 % to 85 %; it still answers cat, and hiding "
        "as many pixels elsewhere lowers it about as much on average.",
    ),
    (replace(MEASURED, area=0), "The map is empty: it marks nothing that speaks for cat."),
]


@pytest.mark.parametrize(("found", "sentence"), SENTENCES)
def test_the_sentence_claims_what_was_measured_and_no_more(found: Hiding, sentence: str) -> None:
    assert hiding_sentence(found) == sentence


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (MEASURED, "good"),
        (replace(MEASURED, after=0.9), "note"),
        (replace(MEASURED, before=0.5, after=0.54), "note"),
        (replace(MEASURED, before=0.5, after=0.56), "doubtful"),
        (replace(MEASURED, before=0.5, after=0.9), "doubtful"),
        (replace(MEASURED, before=0.2, after=0.1, elsewhere=(0.1,) * 8), "doubtful"),
        (replace(MEASURED, before=0.89, after=0.71, elsewhere=(0.72,) * 8), "good"),
        (replace(STAYS, before=0.89, after=0.71, elsewhere=(0.72,) * 8), "doubtful"),
        (replace(STAYS, before=0.89, after=0.71, elsewhere=(0.8,) * 8), "good"),
        (replace(MEASURED, changed_elsewhere=2), "good"),
        (replace(MEASURED, changed_elsewhere=3), "note"),
        (replace(MEASURED, area=0), "note"),
        (replace(MEASURED, before=0.002), "note"),
    ],
)
def test_a_map_is_doubtful_where_hiding_it_helps_or_any_other_area_does_as_well(
    found: Hiding, verdict: str
) -> None:
    assert verdict_on(found) == verdict


def test_the_details_have_the_numbers_behind_the_sentence() -> None:
    assert hiding_details(replace(MEASURED, changed_elsewhere=1)) == (
        "Measured by hiding the marked 20 % of the image: cat from 91 % to 3 %, answer dog. The "
        "same shape hidden in 8 other places: cat 85 % on average; the answer changes in 1 of 8."
    )
    assert hiding_details(replace(MEASURED, area=0)) == ""


def explanation_of(values: object) -> Explanation:
    maps = np.asarray(values, dtype=np.float64)[None]
    images = np.full((1, 3, *maps.shape[1:]), 255, dtype=np.uint8)
    return Explanation("occlusion", maps, images, np.zeros((1, 5)), np.zeros(1, np.int64), NAMES)


def corner_map(sign: float = 1.0) -> Explanation:
    values = np.zeros((16, 16))
    values[:4, :4] = sign
    return explanation_of(values)


def test_a_fifth_of_the_image_is_marked_and_only_what_speaks_for_the_class() -> None:
    marked = marked_area(explanation_of(np.arange(100.0).reshape(10, 10)))
    assert marked[0, 8:].all() and not marked[0, :8].any()
    assert marked_area(corner_map()).sum() == 16
    assert not marked_area(corner_map(-1.0)).any()


def test_hiding_is_measured_where_the_network_looks_and_elsewhere() -> None:
    classifier = classifier_of(CornerNet())
    found = hide(classifier, corner_map())
    assert found.before > 0.9 and found.after < found.before - 0.2
    assert found.area == 16 / 256 and len(found.elsewhere) == 8
    # None of the shifts by a third of the image reaches the corner again.
    assert found.elsewhere == pytest.approx([found.before] * 8) and not found.changed_elsewhere
    names = [check.name for check in check_hiding(classifier, corner_map()).checks]
    assert names == [HIDING, ELSEWHERE]
    (empty,) = check_hiding(classifier, corner_map(-1.0)).checks
    assert empty.verdict == "note" and "empty" in empty.words


def test_hiding_asks_in_all_views() -> None:
    # In the mirror image, this network looks at the other corner, which is black.
    images = np.zeros_like(corner_map().images)
    images[..., :4, :4] = 255
    explanation = replace(corner_map(), images=images)
    for mirror in (False, True):
        classifier = replace(classifier_of(CornerNet()), mirror=mirror)
        share = classifier.to_probabilities(logits_of(classifier, images))[0, 0]
        assert hide(classifier, explanation).before == pytest.approx(float(share))


def test_answers_elsewhere_are_compared_with_that_of_the_whole_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["cat", "dog", *("cat", "dog", "cat", "frog", "cat", "cat", "dog", "dog")]
    monkeypatch.setattr("glasshouse.explanation.trust.hiding._answers", lambda *_: answers)
    classifier = classifier_of(module_net())
    page = explain_page(classifier, some_images(1), methods=["saliency"])
    found = hide(classifier, page.explanations[0])
    assert (found.answer, found.answer_after, found.changed_elsewhere) == ("cat", "dog", 4)


def test_hiding_leaves_the_network_and_the_maps_as_they_were() -> None:
    classifier = classifier_of(CornerNet())
    before = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    explanation = corner_map()
    checked = check_hiding(classifier, explanation)
    np.testing.assert_array_equal(checked.maps, explanation.maps)
    for name, value in classifier.net.state_dict().items():
        assert torch.equal(value, before[name])
    assert classifier.net.training and all(p.grad is None for p in classifier.net.parameters())


def with_doubts(method: str, count: int, maps: object = ((1.0,),)) -> Explanation:
    checks = tuple(Check(str(i), (), "doubtful", "") for i in range(count))
    return replace(explanation_of(maps), method=method, checks=checks)


def test_the_first_map_has_the_fewest_doubts_and_is_easy_to_read() -> None:
    clear, doubtful = with_doubts("occlusion", 0), with_doubts("grad-cam", 1)
    assert lead_of([doubtful, clear]) is clear
    assert lead_of([with_doubts("saliency", 1), clear, doubtful]) is clear
    tied = with_doubts("grad-cam", 0)
    assert lead_of([clear, tied]) is tied
    empty = with_doubts("grad-cam", 0, ((0.0,),))
    assert lead_of([empty, with_doubts("saliency", 3)]).method == "saliency"
    assert lead_of([with_doubts("eigen-cam", 0), doubtful]) is doubtful
    hidden = replace(clear, checks=(Check(HIDING, (), "doubtful", ""),))
    assert doubts_of(hidden) == ()


def test_only_a_single_image_is_told_what_hiding_does() -> None:
    classifier = classifier_of(module_net())
    page = explain_image(classifier, some_images(1)[0], MapRequest(("grad-cam", "saliency")))
    told = [e.method for e in page.explanations if HIDING in {c.name for c in e.checks}]
    assert told == [lead_of(page.explanations).method]
    many = check_all(classifier, [replace(e, checks=()) for e in explained_twice()])
    assert not {c.name for e in many for c in e.checks} & {HIDING, ELSEWHERE}


def explained_twice() -> tuple[Explanation, ...]:
    page = explain_page(classifier_of(module_net()), some_images(2), methods=["grad-cam"])
    return page.explanations


def test_hiding_needs_no_float64_of_a_device() -> None:
    net = CornerNet()
    classifier = classifier_of(AnsweringOnMps(net))
    assert hide(classifier, corner_map()) == hide(classifier_of(net), corner_map())
