"""`glasshouse compare`: which of two or more runs is better on the same images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glasshouse.cli.options import DataDir, Json, Offline, Reread, print_json
from glasshouse.wording import p_words, percentage, pluralize

if TYPE_CHECKING:
    from glasshouse.evaluation.compare import Comparison, Disagreement
    from glasshouse.evaluation.compare_labels import LabelComparison

_IMAGES, _LONGEST_HEADING = 5, 30


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Two or more run folders.")],
    on: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Compare on this source instead: on its test split, or on all images of a folder "
            "or table without splits that no RUN was trained on.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a self-contained report to this .html file.")
    ] = None,
    reread: Reread = False,
    data_dir: DataDir = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Compare RUNs image by image: which is better, in which classes and on which images.

    By accuracy; where an image may have several labels, by mean average precision.
    """
    from glasshouse.cli import early_checks
    from glasshouse.cli.progress_bars import say
    from glasshouse.errors import GlasshouseError, UsageError

    if len(runs) < 2:
        raise UsageError(f"compare needs two run folders or more, received {len(runs)}")
    early_checks.require_file_name(out, ".html", ".htm")
    early_checks.require_finished(runs)
    if on is not None:
        early_checks.require_source(on, offline=offline)
    if on is None and out is not None:
        early_checks.reread_run(reread, runs[0])
    else:
        early_checks.reread(reread, on, "name a source with --on, or a page with --out")
    from glasshouse.evaluation.evaluation import to_json
    from glasshouse.report.run_report import write_comparison
    from glasshouse.workflow.compare.compare_runs import compare_runs, disagreement_images

    comparisons = compare_runs(runs, on, data_dir=data_dir, offline=offline)
    if json:
        print_json([{**to_json(each), "verdict": each.verdict} for each in comparisons])
    else:
        print("\n\n".join(format_comparison(comparison) for comparison in comparisons))
    if out is not None:
        try:
            images = disagreement_images(
                comparisons, runs[0], on, data_dir=data_dir, offline=offline
            )
        except GlasshouseError as error:
            images = {}
            say(f"the report lists image names only, because the images could not be read: {error}")
        write_comparison(comparisons, out, images)
        say(f"report: {out}")


def format_comparison(comparison: "Comparison | LabelComparison") -> str:
    """The verdict, the metrics of both runs, the classes and some images they disagree on."""
    from glasshouse.evaluation.compare_labels import LabelComparison

    if isinstance(comparison, LabelComparison):
        return "\n".join(_label_lines(comparison))
    return "\n".join(
        [
            comparison.verdict,
            "",
            *_metrics(comparison),
            "",
            *_classes(comparison),
            *_images(f"only {comparison.first} is right", comparison.only_first_right),
            *_images(f"only {comparison.second} is right", comparison.only_second_right),
            *_images("both are wrong, with different answers", comparison.both_wrong),
        ]
    )


def _metrics(comparison: "Comparison") -> Iterator[str]:
    width = max(len(comparison.first), len(comparison.second))
    yield f"{comparison.first:<{width}}  {comparison.first_accuracy}"
    yield f"{comparison.second:<{width}}  {comparison.second_accuracy}"
    change, loss = comparison.difference, comparison.loss_difference
    yield (
        f"accuracy in points, {comparison.second} minus {comparison.first}: "
        f"{100 * change.value:+.2f} "
        f"({100 * change.low:+.2f} to {100 * change.high:+.2f}, paired bootstrap)"
    )
    yield (
        f"loss, {comparison.second} minus {comparison.first}: {loss.value:+.4f} "
        f"({loss.low:+.4f} to {loss.high:+.4f})"
    )
    yield (
        f"both right: {comparison.both_right_count:,}; only {comparison.first}: "
        f"{len(comparison.only_first_right):,}; only {comparison.second}: "
        f"{len(comparison.only_second_right):,}; both wrong: {comparison.both_wrong_count:,}"
    )
    yield f"McNemar's exact test: p = {comparison.p:.3g}, Holm-adjusted {comparison.p_adjusted:.3g}"


def _classes(comparison: "Comparison") -> Iterator[str]:
    rows = comparison.per_class
    width = max(5, *(len(row.name) for row in rows))
    first, second = _headings(comparison)
    yield f"{'class':<{width}}  {first}  {second}  points  95 % interval     p (Holm)"
    for row in rows:
        change = row.difference
        interval = f"{100 * change.low:+.1f} to {100 * change.high:+.1f}"
        p = "< 0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}"
        yield (
            f"{row.name:<{width}}  {percentage(row.first.value, 1):>{len(first)}}  "
            f"{percentage(row.second.value, 1):>{len(second)}}  {100 * change.value:+6.1f}  "
            f"{interval:<16}  {p}"
        )


def _headings(comparison: "Comparison | LabelComparison") -> tuple[str, str]:
    """The names of both above their columns, unless they are too long for that."""
    names = comparison.first, comparison.second
    if max(map(len, names)) > _LONGEST_HEADING:
        names = "first", "second"
    return f"{names[0]:>8}", f"{names[1]:>8}"


def _label_lines(comparison: "LabelComparison") -> Iterator[str]:
    """The same where images may have several labels."""
    from glasshouse.cli.metrics_text import value_with_interval

    names = comparison.first, comparison.second
    change = comparison.difference
    width = max(map(len, names))
    yield comparison.verdict
    yield ""
    yield "mean average precision, 95 % interval"
    yield f"{names[0]:<{width}}  {value_with_interval(comparison.first_score)}"
    yield f"{names[1]:<{width}}  {value_with_interval(comparison.second_score)}"
    yield (
        f"{names[1]} minus {names[0]}: {change.value:+.3f} ({change.low:+.3f} to "
        f"{change.high:+.3f}, paired by image)"
    )
    only = len(comparison.only_first_right), len(comparison.only_second_right)
    yield (
        f"all labels right in both: {comparison.both_right_count:,}; only in {names[0]}: "
        f"{only[0]:,}; only in {names[1]}: {only[1]:,}; in neither: "
        f"{comparison.both_wrong_count:,}"
    )
    p, adjusted = p_words(comparison.p), p_words(comparison.p_adjusted)
    yield f"test of no difference: {p}; Holm-adjusted: {adjusted}"
    yield ""
    yield from _label_table(comparison)
    groups = (
        (f"all labels right only in {names[0]}", comparison.only_first_right),
        (f"all labels right only in {names[1]}", comparison.only_second_right),
        ("wrong in both, with different labels", comparison.both_wrong),
    )
    for title, rows in groups:
        yield from _images(title, rows, "{true}; {names[0]}: {first}; {names[1]}: {second}", names)


def _label_table(comparison: "LabelComparison") -> Iterator[str]:
    rows = comparison.per_label
    width = max(5, *(len(row.name) for row in rows))
    first, second = _headings(comparison)
    yield f"{'label':<{width}}  {first}  {second}  change  95 % interval     p (Holm)"
    for row in rows:
        change = row.difference
        interval = f"{change.low:+.3f} to {change.high:+.3f}"
        p = "< 0.001" if row.p_adjusted < 0.001 else f"{row.p_adjusted:.3f}"
        yield (
            f"{row.name:<{width}}  {row.first.value:>{len(first)}.3f}  "
            f"{row.second.value:>{len(second)}.3f}  {change.value:+.3f}  {interval:<16}  {p}"
        )


def _images(
    title: str,
    rows: "Sequence[Disagreement]",
    form: str = "{true}, predicted {first} and {second}",
    names: tuple[str, str] = ("", ""),
) -> Iterator[str]:
    if not rows:
        return
    yield ""
    yield f"{title}: {pluralize(len(rows), 'image')}"
    for row in rows[:_IMAGES]:
        words = form.format(true=row.true, first=row.first, second=row.second, names=names)
        yield f"  {row.id}: {words}"
    if len(rows) > _IMAGES:
        yield f"  and {len(rows) - _IMAGES:,} more; see all with --json"
