"""What a notebook shows for each noun: short HTML that loads nothing and suits light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

from glasshouse.data.images import ImageSet, Splits
from glasshouse.data.targets import class_counts, is_matrix, joined_names, names_at
from glasshouse.errors import type_words
from glasshouse.evaluation.evaluation import Evaluation
from glasshouse.models.classifier import Classifier
from glasshouse.models.outputs import UNKNOWN, Predictions
from glasshouse.models.prediction_sets import prediction_sets, rule_of
from glasshouse.report.encoding import strip_uri
from glasshouse.report.html import render_template
from glasshouse.wording import first_of, level, percentage, pluralize

# Enough to see what a class looks like; together at most about 100 kB.
_CLASSES, _PER_CLASS, _SIDE = 10, 6, 40
_ROWS, _TOP, _NAMES = 10, 3, 12

Cell = str | float


@dataclass(frozen=True)
class _Strip:
    """Images of one class next to each other, as a data: URI."""

    name: str
    count: int
    address: str


@dataclass(frozen=True)
class _Table:
    """A table; cells that are numbers from 0 to 1 are shares, drawn as bars."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class _View:
    """What is shown of a noun: facts by name, tables, strips of images and sentences."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[_Table] = ()
    strips: Sequence[_Strip] = ()
    notes: Sequence[str] = ()


def noun_html(noun: object) -> str:
    """A noun as HTML below 200 kB; texts are escaped."""
    return render_template("noun.html.jinja", {"view": _view(noun), "side": _SIDE})


@singledispatch
def _view(noun: object) -> _View:
    raise TypeError(f"noun_html: expected a noun of Glasshouse, received {type_words(noun)}")


@_view.register
def _(images: ImageSet) -> _View:
    title = f"{pluralize(len(images), 'image')} of {images.height}x{images.width}"
    strips, notes = _strips(images)
    names = pluralize(len(images.class_names), "class", "classes")
    return _View(f"ImageSet: {title}, {names}", strips=strips, notes=notes)


@_view.register
def _(splits: Splits) -> _View:
    rows = []
    named = ("training", splits.train), ("validation", splits.validation), ("test", splits.test)
    for name, images in named:
        counts = class_counts(images.targets, len(images.class_names))
        least, most = (f"{count:,}" for count in (counts.min(), counts.max()))
        spread = least if least == most else f"{least} to {most}"
        size = f"{images.height}x{images.width}"
        rows.append((name, f"{len(images):,}", size, spread))
    head = "split", "images", "size", "images per class"
    strips, more = _strips(splits.train)
    skipped = [f"{pluralize(len(splits.bad_files), 'file')} could not be read."]
    notes = (*more, *splits.notes, *(skipped if splits.bad_files else ()))
    title = f"Splits: {pluralize(len(splits.class_names), 'class', 'classes')}"
    return _View(title, tables=[_Table("", head, rows)], strips=strips, notes=notes)


@_view.register
def _(classifier: Classifier) -> _View:
    own = classifier.preprocessing
    is_plain = own.mean == (0, 0, 0) and own.std == (1, 1, 1)
    statistics = f"mean {_channels(own.mean)}, deviation {_channels(own.std)}"
    scores = classifier.conformity
    facts = [
        ("network", f"{type(classifier.net).__name__}, {_parameters(classifier)}"),
        ("input", f"{own.height}x{own.width} RGB; {_RESIZED[own.resize]}"),
        ("scaling", "to 0..1" if is_plain else statistics),
        ("classes", _listed(classifier.class_names)),
    ]
    if classifier.views.count > 1:
        facts.append(("prediction", f"mean of {classifier.views.words}"))
    if classifier.temperature != 1.0:
        facts.append(("calibration", f"temperature {classifier.temperature:.3g}"))
    if scores is not None:
        images = pluralize(len(scores), "image")
        facts.append(("prediction sets", f"calibrated on {images}: {scores.source}"))
    return _View("Classifier", facts)


@_view.register
def _(predictions: Predictions) -> _View:
    names, shares = predictions.class_names, predictions.probabilities[:_ROWS]
    targets = predictions.targets
    has_labels = is_matrix(targets) or bool((targets != UNKNOWN).any())
    rule = rule_of(predictions.conformity, predictions.thresholds)
    sets = None if rule is None else prediction_sets(shares, names, rule)
    rows: list[tuple[Cell, ...]] = []
    for i, row in enumerate(shares):
        best = row.argsort()[::-1][:_TOP]
        cells: list[Cell] = [str(predictions.ids[i])]
        if has_labels:
            cells.append(_true_name(predictions, i))
        for k in best:
            cells += [_name(names, int(k)), float(row[k])]
        if sets is not None:
            cells.append(sets.words(i))
        rows.append(tuple(cells))
    ranked = [cell for rank in range(min(_TOP, shares.shape[1])) for cell in (_RANKS[rank], "")]
    set_head = () if sets is None else (f"{level(sets.rule.coverage)} set",)
    head = ("image", *(("true class",) if has_labels else ()), *ranked, *set_head)
    left = len(predictions) - len(rows)
    notes = [f"and {pluralize(left, 'more image')}"] if left else []
    title = f"Predictions: {pluralize(len(predictions), 'image')}, {len(names)} classes"
    return _View(title, tables=[_Table("", head, rows)], notes=notes)


@_view.register
def _(evaluation: Evaluation) -> _View:
    facts = [
        ("accuracy", str(evaluation.accuracy)),
        ("baseline accuracy", f"{percentage(evaluation.commonest_share, 2)} (most frequent class)"),
        *((f"top-{each.k} accuracy", str(each.accuracy)) for each in evaluation.top_k),
        ("loss", f"{evaluation.loss:.3f}; calibrated {evaluation.calibrated_loss:.3f}"),
        ("calibration error", percentage(evaluation.after.ece, 2)),
        ("mistakes", f"{evaluation.mistake_count:,} of {evaluation.image_count:,}"),
    ]
    known = [each for each in evaluation.per_class if each.recall is not None]
    weak = sorted(known, key=lambda each: each.recall.value if each.recall else 0.0)[:5]
    recalls = [(each.name, each.recall.value, f"{each.support:,}") for each in weak if each.recall]
    pairs = [(p.true, p.predicted, f"{p.count:,}", p.share) for p in evaluation.confused_pairs[:5]]
    facts += [
        (
            f"{level(each.asked)} sets",
            f"coverage {each.coverage}, {each.mean_size.value:.2f} classes",
        )
        for each in evaluation.prediction_sets
        if each.method == "lac" and not each.class_conditional
    ]
    tables = [_Table("Weakest classes", ("class", "recall", "images"), recalls)]
    if pairs:
        head = "true class", "predicted as", "images", "share of the class"
        tables.append(_Table("Most confused classes", head, pairs))
    return _View(f"Evaluation: {pluralize(evaluation.image_count, 'image')}", facts, tables)


_RESIZED = {
    "crop": "other images are resized and cropped",
    "letterbox": "other images are resized and get grey bars",
    "stretch": "other images are stretched",
}
_RANKS = ("most probable", "second", "third")


def _strips(images: ImageSet) -> tuple[list[_Strip], list[str]]:
    """The first images of the first classes, and a sentence on classes that are left out."""
    strips = []
    for label, name in enumerate(images.class_names[:_CLASSES]):
        found = images.rows_with(label)
        if len(found):
            strips.append(
                _Strip(name, len(found), strip_uri(images.pixels[found[:_PER_CLASS]], _SIDE))
            )
    left = len(images.class_names) - _CLASSES
    return strips, [f"and {pluralize(left, 'more class', 'more classes')}"] if left > 0 else []


def _parameters(classifier: Classifier) -> str:
    return pluralize(classifier.parameter_count, "parameter")


def _channels(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def _listed(names: tuple[str, ...]) -> str:
    return f"{len(names)}: {first_of(names, _NAMES)}"


def _true_name(predictions: Predictions, row: int) -> str:
    if is_matrix(predictions.targets):
        return joined_names(names_at(predictions.targets, row, predictions.class_names))
    return _name(predictions.class_names, int(predictions.targets[row]))


def _name(names: tuple[str, ...], position: int) -> str:
    if position == UNKNOWN:
        return "?"
    return names[position] if position < len(names) else str(position)
