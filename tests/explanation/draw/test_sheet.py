from dataclasses import replace

import numpy as np
import pytest

from glasshouse.explanation.draw.canvas import Canvas, to_png
from glasshouse.explanation.draw.photo_and_map import draw_photo_and_map
from glasshouse.explanation.draw.sheet import classes_shown, draw_sheet
from glasshouse.explanation.draw.sheet_words import (
    described_page,
    grouped,
    line_of_checks,
    method_titles,
    notes_of,
    question_of,
    short_checks,
)
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.methods import METHODS, QUESTIONS
from glasshouse.explanation.nouns import Activations, Check, Explanation, ExplanationPage
from glasshouse.explanation.trust.hiding import HIDING
from glasshouse.explanation.trust.lead import verdict_on
from tests.explanation.nets import NAMES, some_images


def explanation_of(method: str, number: int) -> Explanation:
    return Explanation(
        method=method,
        maps=np.random.default_rng(number).random((1, 4, 4)),
        images=some_images(1),
        logits=np.zeros((1, 5)),
        targets=np.zeros(1, dtype=np.int64),
        class_names=NAMES,
        layer="conv" if METHODS[method].source == "layer" else None,
    )


def page_of(*explanations: Explanation) -> ExplanationPage:
    logits = np.array([[0.0, 2.0, 1.0, 0.5, 0.2]])
    names = ("photos/holiday.png",)
    return ExplanationPage(
        some_images(1), logits, NAMES, explanations, names=names, model="my-network"
    )


def test_the_sheet_names_the_file_the_model_and_the_class_with_its_probability() -> None:
    page = page_of(explanation_of("grad-cam", 0))
    said = described_page(page, 0)
    assert said.split("  \N{MIDDLE DOT}  ") == [
        "holiday.png", "my-network", "answer: dog 53 %", "explained: cat 7 %"
    ]  # fmt: skip
    predicted = replace(page.explanations[0], targets=np.ones(1, dtype=np.int64))
    assert "explained" not in described_page(page_of(predicted), 0)
    assert described_page(replace(page, names=(), model=""), 0).startswith("answer: dog")


def test_the_title_of_the_first_map_is_whole_for_long_layer_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Canvas, "write", lambda self, point, text, *rest, **_: written.append(text))
    unjudged = tuple(
        Check(name, (0.0,), "note", "Cannot be judged.") for name in ("edges", "faithfulness")
    )
    for layer in ("blocks.11.norm1", "stages.1.downsample.attn_downsample.q.ln"):
        written.clear()
        first = replace(explanation_of("grad-cam", 0), layer=layer, checks=unjudged)
        draw_sheet(page_of(first))
        verdict = "no doubts, but edges and faithfulness cannot be judged"
        assert f"Begin here: Grad-CAM at {layer}, {verdict}" in " ".join(written)


def test_the_explained_class_has_a_bar_even_where_it_is_improbable() -> None:
    shares = np.array([0.02, 0.4, 0.3, 0.2, 0.05, 0.03])
    assert classes_shown(shares, 0) == [1, 2, 3, 4, 0]
    assert classes_shown(shares, 2) == [1, 2, 3, 4]


def test_a_class_that_is_not_the_answer_is_asked_about_in_other_words() -> None:
    first = replace(explanation_of("grad-cam", 0), targets=np.array([1]))
    page = page_of(first)
    assert (int(page.logits.argmax()), question_of(page, 0)) == (1, f"Why {NAMES[1]}?")
    other = page_of(replace(first, targets=np.array([0])))
    assert question_of(other, 0) == f"What speaks for {NAMES[0]}?"
    assert question_of(page_of(), 0) == "What is this?"
    # Where an image may have several labels, each that is found is an answer.
    several = replace(page, thresholds=(0.5, 0.5, 0.9, 0.5, 0.5))
    found = [replace(first, targets=np.array([place])) for place in (2, 3)]
    asked = [question_of(replace(several, explanations=(each,)), 0) for each in found]
    assert asked == [f"What speaks for {NAMES[2]}?", f"Why {NAMES[3]}?"]


def test_maps_are_grouped_by_question_and_identical_ones_appear_once() -> None:
    first, saliency = explanation_of("grad-cam", 0), explanation_of("saliency", 1)
    twin = replace(first, method="hires-cam")
    layer, plus = explanation_of("layer-cam", 2), explanation_of("grad-cam++", 2)
    groups = grouped([saliency, first, twin, layer, plus], 0)
    assert [question for question, _ in groups] == [
        "Where is the evidence for cat?", "Which pixels would change the score of cat most?"
    ]  # fmt: skip
    assert [[e.method for e in same] for same in groups[0][1]] == [["layer-cam", "grad-cam++"]]
    assert method_titles(groups[0][1][0]) == "LayerCAM and Grad-CAM++ at conv"
    said = notes_of([saliency, first, twin])
    assert said == ["Identical to the map to begin with: HiResCAM at conv."]
    noted = [replace(each, notes=("Alike.", f"{each.method}.")) for each in (saliency, layer)]
    assert notes_of(noted) == ["All maps: Alike.", "Saliency: saliency.", "LayerCAM: layer-cam."]
    more = [*noted, replace(plus, maps=plus.maps + 1)]
    assert notes_of(more)[0] == "Saliency, LayerCAM: Alike."
    assert {method.question for method in METHODS.values()} == set(QUESTIONS)


def test_maps_that_mark_nothing_appear_once_although_their_values_differ() -> None:
    first = explanation_of("saliency", 1)
    against = [
        replace(explanation_of(method, seed), maps=-np.abs(explanation_of(method, seed).maps))
        for method, seed in (("grad-cam", 2), ("layer-cam", 3))
    ]
    (group,) = [same for question, same in grouped([first, *against], 0) if "evidence" in question]
    assert [[each.method for each in same] for same in group] == [["grad-cam", "layer-cam"]]


def test_a_doubt_is_told_in_a_few_words_and_so_is_that_there_is_none() -> None:
    plain = explanation_of("saliency", 0)
    assert short_checks(plain) == []
    good = replace(plain, checks=(Check("edges", (0.1,), "good", "It is not."),))
    assert short_checks(good) == [("good", "passed its only check")]
    bad = replace(plain, checks=(*good.checks, Check("random head", (0.9,), "doubtful", "...")))
    untold = Check("faithfulness", (0.9,), "note", "Cannot be judged: it is improbable.")
    unsure = replace(plain, checks=(*good.checks, untold))
    assert short_checks(unsure) == [("note", "faithfulness: cannot be judged")]
    assert verdict_on(unsure) == "no doubts, but faithfulness cannot be judged"
    assert [verdict_on(each) for each in (plain, good, bad)] == [
        "not checked", "passed its only check", "failed 1 of 2 checks"
    ]  # fmt: skip
    stable = "hardly changes when the last layer is random"
    assert short_checks(bad) == [("doubtful", stable)]
    # What could not be judged is not among the checks that were passed or failed.
    assert line_of_checks(good) == "passed its only check"
    open_too = replace(bad, checks=(*bad.checks, untold))
    expected = f"failed 1 of 2 checks: {stable}; faithfulness: cannot be judged"
    assert line_of_checks(open_too) == expected
    hidden = Check(HIDING, (0.9, 0.9), "doubtful", "Hiding the marked area makes it more certain.")
    assert line_of_checks(replace(good, checks=(*good.checks, hidden))) == "passed its only check"
    three = tuple(Check(name, (0.1,), "good", "...") for name in ("edges", "random head", "other"))
    assert verdict_on(replace(plain, checks=three)) == "passed all 3 checks"
    note = Check("random head", (0.9,), "note", "Independent of the class: ...")
    assert verdict_on(replace(plain, checks=(three[0], note, three[2]))) == "passed both checks"
    assert verdict_on(replace(plain, checks=(note,))) == "not checked"
    empty = replace(plain, checks=(Check("empty", (0.0,), "doubtful", "..."),))
    assert line_of_checks(empty) == "empty: it marks nothing"


def test_sheets_and_single_maps_are_drawn_for_any_number_of_maps_and_equal_bytes() -> None:
    names = ("grad-cam", "occlusion", "saliency", "guided", "eigen-cam", "layer-cam")
    heights = []
    for count in (1, 3, 6):
        page = page_of(*(explanation_of(name, i) for i, name in enumerate(names[:count])))
        heights.append(draw_sheet(page).height)
        assert to_png(draw_sheet(page)) == to_png(draw_sheet(page))
        single = draw_photo_and_map(page, count - 1)
        assert to_png(single) == to_png(draw_photo_and_map(page, count - 1))
    assert heights == sorted(set(heights))
    assert draw_sheet(page, columns=2).height > draw_sheet(page).height
    assert draw_sheet(page_of()).width == draw_sheet(page).width


def test_a_single_map_shows_the_photo_and_next_to_it_the_same_photo_in_grey() -> None:
    empty = replace(explanation_of("occlusion", 0), maps=np.zeros((1, 16, 16)))
    drawn = np.asarray(draw_photo_and_map(page_of(empty), 0))
    photo, over = drawn[70:550, 22:502], drawn[70:550, 518:998]
    grey = np.rint(photo.astype(float).mean(2))
    assert not (photo == photo[..., :1]).all() and (over == over[..., :1]).all()
    assert np.abs(over[..., 0] - grey).max() <= 1


def test_long_names_leave_room_for_the_answer_and_the_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Canvas, "write", lambda self, point, text, *rest, **_: written.append(text))
    names = tuple(f"{'a very long name of a class ' * 5}{number}" for number in range(5))
    layer = replace(explanation_of("grad-cam", 0), layer="blocks.6.0.bn3", class_names=names)
    page = replace(page_of(layer), names=(f"{'2026-11-27-' * 20}last.png",), class_names=names)
    draw_photo_and_map(page, 0)
    title, said = written[:2]
    assert "Grad-CAM at blocks.6" in title
    assert said.startswith("2026-11-27-") and "last.png" in said
    assert "53 %" in said and "my-network" in said


def test_the_title_of_activations_is_never_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(Canvas, "write", lambda self, point, text, *rest, **_: written.append(text))
    name = "features.denseblock4.denselayer16.conv2_of_the_last_block"
    layer = Activations(name, np.zeros((1, 4, 2, 2), dtype=np.float32))
    tall = draw_activations(layer).height
    assert "".join(written).replace(" ", "").endswith("4dead(crossedout)")
    written.clear()
    draw_channel(layer, 3)
    assert "".join(written).replace(" ", "") == f"{name},channel3:dead,0everywhere"
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)
    assert draw_activations(Activations("conv", values)).height < tall


def test_the_caption_names_the_share_of_the_image_that_is_outlined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A map that is zero almost everywhere marks less than a fifth."""
    written: list[str] = []
    monkeypatch.setattr(Canvas, "write", lambda self, point, text, *rest, **_: written.append(text))
    sparse = np.zeros((1, 10, 10))
    sparse[0, 3:5, 3] = 1.0
    images = np.zeros((1, 3, 10, 10), dtype=np.uint8)
    only = replace(explanation_of("grad-cam", 0), maps=sparse, images=images)
    draw_sheet(replace(page_of(only), images=images))
    assert "Outlined: the marked area, the strongest 2 % of the image." in written
    empty = replace(only, maps=np.zeros((1, 10, 10)))
    draw_sheet(replace(page_of(empty), images=images))
    assert "Nothing is marked." in written
