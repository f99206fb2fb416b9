"""The page of a run: whole, self-contained, and safe with names of any kind."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from glasshouse.data.findings import Finding
from glasshouse.data.images import BadFile, ImageSet
from glasshouse.errors import UsageError
from glasshouse.evaluation.compare import compare, compare_all
from glasshouse.evaluation.evaluation import Evaluation, evaluate
from glasshouse.explanation.nouns import Explanation, Mistakes
from glasshouse.models.predict import Predictions
from glasshouse.report.encoding import figure_png
from glasshouse.report.explanation_page import ExplainedMistakes
from glasshouse.report.plots import plot_curves
from glasshouse.report.run_report import (
    GALLERY,
    IMAGES_OF_PAIR,
    PAIRS_SHOWN,
    SAMPLES_OF_CLASS,
    RunReport,
    Section,
    Table,
    class_samples,
    confused_mistakes,
    images_of,
    render_comparison,
    render_report,
    write_comparison,
    write_report,
)
from glasshouse.training.lr_curve import LrCurve
from tests.report.conftest import make_epochs, make_predictions

ATTACK = "<img src=x onerror=alert(1)>"
_VOID = {"meta", "img", "source", "br", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Tags, attributes and text; says when tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\u00a0", " ")

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_curve() -> LrCurve:
    lrs = np.geomspace(1e-5, 1, 30)
    losses = np.abs(np.log10(lrs) + 2)[None] + 0.5
    rates = {"valley": 0.01}
    text = "a valley at 0.01"
    return LrCurve(lrs, losses, losses, "valley", rates, 0.01, (0.008, 0.012), 0.001, 0.02, text)


@pytest.fixture
def run(predictions: Predictions, images: ImageSet) -> RunReport:
    evaluation = evaluate(predictions)
    confused = confused_mistakes(evaluation, predictions)
    shown = [*evaluation.mistakes[:GALLERY], *(mistake for group in confused for mistake in group)]
    return RunReport(
        title="my run",
        evaluation=evaluation,
        source="digits",
        split_counts={"train": 1200, "validation": 97, "test": 300},
        command="glasshouse train digits --out 'my run'",
        recipe_toml='[train]\nlr = 0.001\nnote = "a & b"',
        notes=("The split is stable.",),
        bad_files=(BadFile("cats/broken.jpg", "truncated"),),
        network=Table(("layer", "parameters"), (("Conv2d", 1234567), ("total", 1234567))),
        epochs=make_epochs(),
        findings=(
            Finding(
                "repeated-duplicates",
                "warning",
                "2 images twice",
                "Remove one.",
                ("cats/1", "cats/2"),
            ),
        ),
        samples=class_samples(images),
        rates=[(0.0, 0.001), (3.0, 0.0005)],
        finder=make_curve(),
        images=images_of(shown, images),
        confused=confused,
        cost={"training": "7.5 s"},
        environment={"torch": "2.13.0"},
        explanations=(
            Section("Grad-CAM", figure_png(plot_curves(make_epochs()), dpi=30), "Looks at it."),
        ),
    )


def test_the_report_has_every_part_of_the_run(run: RunReport) -> None:
    page = Page(render_report(run))
    evaluation = run.evaluation
    assert isinstance(evaluation, Evaluation)
    accuracy = run.evaluation.accuracy
    right = evaluation.image_count - evaluation.mistake_count
    baseline = run.evaluation.commonest_share
    for said in (
        "my run", f"{100 * accuracy.value:.1f} %",
        f"{right} of 300 test images are classified correctly",
        "95 % confidence interval for other images of the same kind is "
        f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %",
        f"always predicting the most frequent class, is {100 * baseline:.1f} %",
        "1,200", "The split is stable.", "cats/broken.jpg", "truncated", "1,234,567", "7.5 s",
        "lr = 0.001", "glasshouse train digits --out 'my run'", "2.13.0", "Looks at it.",
        "Grad-CAM", "Rejecting predictions below", "2 images twice", "cats/2", "a valley at 0.01",
        evaluation.confused_pairs[0].true,
    ):  # fmt: skip
        assert said in page.text, said
    headings = re.findall("<h2>(.*?)</h2>", render_report(run))
    assert headings == [
        "Training", "Metrics per class", "Most confused classes", "The worst mistakes",
        "Calibration", "Explanations", "Data", "Network", "Reproduce",
    ]  # fmt: skip


def test_the_conclusions_lead_and_the_explained_mistakes_have_four_tiles_each(
    run: RunReport,
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    maps = np.random.default_rng(1).random((2, 4, 4))
    names = ("cat", ATTACK)
    one, other = np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64)
    why = Explanation("grad-cam", maps, images, maps[:, 0, :2], one, names, layer="conv")
    rather = replace(why, against=other)
    explained = Mistakes(
        "worst",
        np.array(["a", ATTACK]),
        np.array([0.9, 0.8]),
        why,
        replace(why, targets=other),
        rather,
    )
    told = ExplainedMistakes("Worst mistakes, explained", "All 2 mistakes.", explained)
    html = render_report(replace(run, conclusions=("Train longer.", ATTACK), explained=told))
    page = Page(html)
    assert page.text.index("Train longer.") < page.text.index("Top 3")
    assert "<img src=x" not in html and html.count("<figcaption>Why cat: up to 0.") == 2
    assert f"cat rather than {ATTACK}" in page.text and "All 2 mistakes." in page.text
    alternatives = [a.get("alt") or "" for a in page.attributes("img")]
    assert sum(said.startswith(("The image", "Why", "cat rather")) for said in alternatives) == 8
    untold = replace(told, mistakes=None, text="There are no mistakes.")
    page = Page(render_report(replace(run, explained=untold)))
    assert "There are no mistakes." in page.text and "Method:" not in page.text


def test_the_page_loads_nothing(run: RunReport) -> None:
    html = render_report(run)
    assert not re.search(r"https?://|//cdn|url\(|@import", html)
    page = Page(html)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for _, attributes in page.tags:
        for key in attributes.keys() & {"src", "srcset"}:
            assert (attributes[key] or "").startswith("data:image/")
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a for a in page.attributes("meta") if "http-equiv" in a)
    assert "default-src 'none'" in (policy["content"] or "")


def test_names_are_text_and_never_html(run: RunReport, predictions: Predictions) -> None:
    names = (ATTACK, "</style><script>x()</script>", '" onload="x()', "{{ 7 * 7 }}")
    ids = predictions.ids.astype("U80")
    hostile = replace(predictions, class_names=names)
    worst = evaluate(hostile).mistakes[0].id
    ids[ids == worst] = ATTACK
    hostile = replace(hostile, ids=ids)
    html = render_report(
        replace(
            run,
            title=ATTACK,
            source=ATTACK,
            command=ATTACK,
            recipe_toml=ATTACK,
            notes=(ATTACK,),
            cost={ATTACK: ATTACK},
            environment={ATTACK: ATTACK},
            evaluation=evaluate(hostile),
            bad_files=(BadFile(ATTACK, ATTACK),),
            images={ATTACK: np.zeros((3, 8, 8), np.uint8)},
            findings=(Finding("x", "error", ATTACK, ATTACK, (ATTACK,)),),
            samples={ATTACK: [np.zeros((3, 8, 8), np.uint8)]},
            confused=[[replace(evaluate(hostile).mistakes[0], id=ATTACK)]],
            network=Table((ATTACK,), ((ATTACK,),)),
            network_text=ATTACK,
            explanations=(Section(ATTACK, b"", ATTACK),),
        )
    )
    page = Page(html)
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert not any(tag == "script" for tag, _ in page.tags)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert ATTACK in page.text
    assert "{{ 7 * 7 }}" in page.text


def test_every_image_has_a_text_alternative(run: RunReport) -> None:
    alternatives = [
        attributes.get("alt") for attributes in Page(render_report(run)).attributes("img")
    ]
    samples, confused = sum(map(len, run.samples.values())), sum(map(len, run.confused))
    assert len(alternatives) == 6 + GALLERY + confused + samples + 1
    assert all(alternatives)
    assert any("Validation loss goes from 2.200 in epoch 1" in (alt or "") for alt in alternatives)


def test_a_single_epoch_is_not_described_as_a_trend(run: RunReport) -> None:
    text = Page(render_report(replace(run, epochs=run.epochs[:1]))).text
    assert "Validation loss is 2.200 in epoch 1, the only one." in text
    assert "goes from" not in text


def test_charts_exist_for_light_and_dark(run: RunReport) -> None:
    page = Page(render_report(run))
    media = [attributes["media"] for attributes in page.attributes("source")]
    assert media == ["screen and (prefers-color-scheme: dark)"] * 6
    # A browser looks for sources in <picture> alone.
    assert len(list(page.attributes("picture"))) == 6


def test_the_gallery_holds_the_worst_mistakes(run: RunReport, images: ImageSet) -> None:
    assert isinstance(run.evaluation, Evaluation)
    for mistake in run.evaluation.mistakes[:GALLERY]:
        place = images.ids.tolist().index(mistake.id)
        assert np.array_equal(run.images[mistake.id], images.pixels[place])
    assert images_of([replace(run.evaluation.mistakes[0], id="elsewhere")], images) == {}


def test_the_most_confused_classes_show_their_most_confident_mistakes(run: RunReport) -> None:
    assert isinstance(run.evaluation, Evaluation)
    pairs = run.evaluation.confused_pairs
    assert [(group[0].true, group[0].predicted) for group in run.confused] == [
        (pair.true, pair.predicted) for pair in pairs[:PAIRS_SHOWN]
    ]
    for pair, group in zip(pairs, run.confused, strict=False):
        assert len(group) == min(pair.count, IMAGES_OF_PAIR)
        assert {(m.true, m.predicted) for m in group} == {(pair.true, pair.predicted)}
        sureness = [mistake.probability for mistake in group]
        assert sureness == sorted(sureness, reverse=True)


def test_samples_are_training_images_of_their_class(images: ImageSet) -> None:
    for label, (name, pixels) in enumerate(class_samples(images).items()):
        assert name == images.class_names[label]
        own = images.pixels[images.labels == label]
        assert np.array_equal(pixels, own[:SAMPLES_OF_CLASS])
    many = replace(images, class_names=tuple(f"class {n}" for n in range(21)))
    assert class_samples(many) == {}


def test_a_minimal_run_has_a_report(predictions: Predictions) -> None:
    least = RunReport("bare", evaluate(predictions), "folder", {"test": 300})
    page = Page(render_report(least))
    assert "All files were readable." in page.text
    assert "Training" not in page.text


def test_a_perfect_run_and_a_single_image_have_a_report() -> None:
    right = replace(make_predictions(), targets=make_predictions().logits.argmax(axis=1))
    one = Predictions(
        np.ones((1, 2), np.float32), np.zeros(1, np.int64), np.array(["a"]), ("x", "y")
    )
    for drawn in (right, one):
        page = Page(render_report(RunReport("r", evaluate(drawn), "s", {"test": len(drawn)})))
        assert "There are no mistakes" in page.text


def test_many_classes_are_listed_by_recall() -> None:
    evaluation = evaluate(make_predictions(900, 30))
    html = render_report(RunReport("r", evaluation, "s", {"test": 900}))
    named = re.findall(r'<th scope="row" class="name">(.*?)</th>', html)
    recalls = {c.name: c.recall.value for c in evaluation.per_class if c.recall}
    assert [recalls[name] for name in named] == sorted(recalls.values())


def test_overconfidence_is_described(predictions: Predictions) -> None:
    sure = replace(predictions, logits=predictions.logits * 5)
    html = render_report(RunReport("r", evaluate(sure), "s", {"test": 300}))
    assert re.search(r"overconfident by \d+\.\d percentage points", html)
    assert re.search(r"the temperature \d+\.?\d* fitted on the validation split", html)


def test_a_classifier_without_any_confident_prediction_is_described(
    predictions: Predictions,
) -> None:
    unsure = replace(predictions, logits=predictions.logits * np.float32(1e-4))
    assert "No prediction reaches the lowest threshold" in render_report(
        RunReport("r", evaluate(unsure), "s", {})
    )


def test_the_report_is_one_file_with_equal_bytes_for_equal_runs(
    run: RunReport, tmp_path: Path
) -> None:
    write_report(run, tmp_path / "a" / "report.html")
    write_report(run, tmp_path / "report.html")
    first = (tmp_path / "a" / "report.html").read_bytes()
    assert first == (tmp_path / "report.html").read_bytes()
    assert first.startswith(b"<!doctype html>")
    assert len(first) < 2_000_000


def test_a_comparison_has_a_page(predictions: Predictions, tmp_path: Path) -> None:
    runs = {ATTACK: predictions, "b": make_predictions(seed=0)}
    better = replace(predictions, logits=predictions.logits + 3 * np.eye(4, dtype=np.float32)[
        predictions.labels])  # fmt: skip
    comparisons = compare_all({**runs, "better": better})
    write_comparison(comparisons, tmp_path / "comparison.html")
    html = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "<img src=x" not in html
    assert all(comparison.verdict in page.text for comparison in comparisons)
    assert "&lt; 0.001" in html
    assert html == render_comparison(comparisons)


def test_a_comparison_of_two_lists_their_disagreements(predictions: Predictions) -> None:
    other = replace(predictions, logits=predictions.logits[:, ::-1].copy())
    page = Page(render_comparison([compare(predictions, other, names=("a", "b"))]))
    found = compare(predictions, other)
    assert f"Only a is correct: all {len(found.only_first_right)} images" in page.text
    assert found.only_first_right[0].id in page.text


def test_a_comparison_page_needs_a_comparison() -> None:
    with pytest.raises(UsageError, match="one comparison or more"):
        render_comparison([])
