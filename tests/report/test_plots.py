"""Figures: what is drawn, and that nothing outside them changes."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from glasshouse.data.images import ImageSet
from glasshouse.errors import UsageError
from glasshouse.evaluation.compare import compare
from glasshouse.evaluation.evaluation import evaluate
from glasshouse.models.predict import Predictions
from glasshouse.report import plots
from glasshouse.report.encoding import figure_png
from glasshouse.report.image_plots import plot_images, plot_mistakes
from glasshouse.report.theme import LIGHT, new_figure, percent_axis
from glasshouse.training.state import Epoch
from tests.report.conftest import make_epochs, make_predictions

HOSTILE = ("$x_{", "<b>&", "a\nb", "名前", "w" * 80)


def texts(figure: Figure) -> str:
    axes_texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    ticks = [
        t.get_text() for a in figure.axes for t in (*a.get_xticklabels(), *a.get_yticklabels())
    ]
    titles = [axes.get_title() for axes in figure.axes]
    return "\n".join([*axes_texts, *ticks, *titles, *(t.get_text() for t in figure.texts)])


def test_curves_draw_what_was_recorded() -> None:
    loss, accuracy, rate = plots.plot_curves(make_epochs(5)).axes
    assert loss.lines[1].get_ydata() == pytest.approx([2.2, 1.1, 2.2 / 3, 0.55, 0.44])
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    assert rate.get_ylabel() == "learning rate"


def test_one_epoch_and_missing_values_can_be_drawn() -> None:
    single = plots.plot_curves(make_epochs(1))
    assert figure_png(single, dpi=40)[1:4] == b"PNG"
    assert [len(np.asarray(line.get_ydata())) for line in single.axes[0].lines[:2]] == [1, 1]
    epochs = [{**epoch, "train_accuracy": None} for epoch in make_epochs(3)]
    named = plots.plot_curves(epochs, panels=["accuracy"], accuracy="all labels right")
    assert named.axes[0].get_ylabel() == "all labels right"
    accuracy = plots.plot_curves(epochs, panels=["accuracy"]).axes[0]
    assert accuracy.get_ylabel() == "accuracy"
    assert [line.get_label() for line in accuracy.lines] == ["validation"]


@pytest.mark.parametrize("losses", [(2.42, 2.35), (0.3, 4.0), (0.0, 0.0)])
def test_a_marker_at_the_highest_loss_is_not_cut(losses: tuple[float, float]) -> None:
    epochs = [
        {"epoch": number, "train_loss": loss, "validation_loss": loss}
        for number, loss in enumerate(losses, start=1)
    ]
    bottom, top = plots.plot_curves(epochs, panels=["loss"]).axes[0].get_ylim()
    assert bottom == 0
    assert top == pytest.approx(1.05 * max(losses) or 1.0)


def test_rates_over_many_powers_of_ten_have_a_log_axis() -> None:
    falling = [{**epoch, "lr": 10.0 ** -epoch["epoch"]} for epoch in make_epochs(4)]
    assert plots.plot_curves(falling, panels=["rate"]).axes[0].get_yscale() == "log"
    assert plots.plot_curves(make_epochs(4), panels=["rate"]).axes[0].get_yscale() == "linear"


def test_no_epochs_are_refused() -> None:
    with pytest.raises(UsageError, match="received none"):
        plots.plot_curves([])


def test_confusion_shows_counts_and_names_where_they_fit(predictions: Predictions) -> None:
    evaluation = evaluate(predictions)
    shown = texts(plots.plot_confusion(evaluation)).split("\n")
    assert str(evaluation.confusion[0, 0]) in shown
    assert shown.count("class 2") == 2
    many = texts(plots.plot_confusion(evaluate(make_predictions(900, 70))))
    assert "class" not in many.replace("of a class", "")


def test_correct_and_wrong_have_their_own_colours(predictions: Predictions) -> None:
    colours = np.asarray(plots.plot_confusion(evaluate(predictions)).axes[0].images[0].get_array())
    red, blue = colours[..., 0], colours[..., 2]
    diagonal = np.eye(4, dtype=bool)
    assert (blue > red)[diagonal].all()
    assert (red >= blue)[~diagonal].all()


def test_a_thousand_classes_become_dots() -> None:
    axes = plots.plot_confusion(evaluate(make_predictions(3000, 1000))).axes[0]
    assert not axes.images
    (dots,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert len(dots.get_offsets()) > 1000  # type: ignore[arg-type]


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_accepts_any_class_name(dark: bool) -> None:
    predictions = replace(make_predictions(80, 5), class_names=HOSTILE)
    pixels = np.zeros((80, 3, 8, 8), np.uint8)
    images = ImageSet(pixels, predictions.labels, predictions.ids, HOSTILE)
    evaluation = evaluate(predictions)
    comparison = compare(predictions, replace(make_predictions(80, 5, seed=0), class_names=HOSTILE))
    for figure in (
        plots.plot_confusion(evaluation, dark=dark),
        plots.plot_reliability(evaluation, dark=dark),
        plots.plot_classes(evaluation, dark=dark),
        plots.plot_class_differences(comparison, dark=dark),
        plot_images(images, predictions, count=6, dark=dark),
        plot_images(images, count=6, dark=dark),
        plot_mistakes(images, predictions, count=6, dark=dark),
    ):
        assert figure_png(figure, dpi=40)[1:4] == b"PNG"


def test_extreme_evaluations_can_be_drawn() -> None:
    single = Predictions(
        np.ones((1, 1), np.float32), np.zeros(1, np.int64), np.array(["a"]), ("x",)
    )
    perfect = replace(make_predictions(), targets=make_predictions().logits.argmax(axis=1))
    few = make_predictions(5, 30)
    for predictions in (single, perfect, few):
        evaluation = evaluate(predictions)
        for draw in (plots.plot_confusion, plots.plot_reliability, plots.plot_classes):
            assert figure_png(draw(evaluation), dpi=40)[1:4] == b"PNG"
    assert "1" in texts(plots.plot_confusion(evaluate(single))).split("\n")
    confusion = evaluate(perfect).confusion
    shown = texts(plots.plot_confusion(evaluate(perfect))).split("\n")
    assert [shown.count(str(n)) >= 1 for n in np.diag(confusion)] == [True] * 4
    assert widths(plots.plot_classes(evaluate(perfect))) == [1.0] * 4
    # Of 30 classes, five at most have an image, and only those have a recall.
    assert len(widths(plots.plot_classes(evaluate(few)))) == len(np.unique(few.labels))


def widths(figure: Figure) -> list[float]:
    """The lengths of the bars of the first axes."""
    return [bar.get_width() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]


def test_reliability_draws_both_temperatures_unless_they_are_one(predictions: Predictions) -> None:
    def labels(drawn: Predictions) -> list[str]:
        found = [
            str(line.get_label()) for line in plots.plot_reliability(evaluate(drawn)).axes[0].lines
        ]
        return [label for label in found if not label.startswith("_")]

    assert labels(predictions) == ["ideal", "uncalibrated", "calibrated"]
    assert labels(replace(predictions, temperature=1.0)) == ["ideal", "calibrated"]


def test_classes_are_drawn_from_the_weakest_and_at_most_forty() -> None:
    evaluation = evaluate(make_predictions(2000, 50))
    axes = plots.plot_classes(evaluation).axes[0]
    lengths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert lengths == sorted(lengths)
    assert len(lengths) == 40
    assert axes.get_title() == "the 40 weakest of 50 classes"


def test_a_training_in_python_draws_what_its_log_would() -> None:
    lines = make_epochs(3)
    epochs = [Epoch(int(line["epoch"]), *list(line.values())[1:]) for line in lines]
    assert figure_png(plots.plot_curves(epochs)) == figure_png(plots.plot_curves(lines))


def test_drawing_changes_no_global_setting(predictions: Predictions) -> None:
    before = dict(mpl.rcParams)
    figure_png(plots.plot_confusion(evaluate(predictions), dark=True), dpi=40)
    assert dict(mpl.rcParams) == before
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []


def test_shares_on_an_axis_look_like_those_in_the_texts() -> None:
    axes = new_figure(4.0, 3.0, LIGHT).add_subplot()
    axes.set_yticks([0.07, 0.625, 0.65, 1.0])
    percent_axis(axes.yaxis)
    axes.figure.canvas.draw()
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "7 %",
        "62.5 %",
        "65 %",
        "100 %",
    ]
