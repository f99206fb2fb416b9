"""The ladder: one change after another under one budget, each compared with the one before."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glasshouse.errors import (
    DataError,
    DivergedError,
    GlasshouseError,
    ModelError,
    NoUsableRate,
    UsageError,
)
from glasshouse.evaluation.image_scores import image_scores
from glasshouse.evaluation.over_seeds import paired_gain
from glasshouse.models.predict import load_predictions
from glasshouse.recipe import load_recipe
from glasshouse.report.encoding import figure_png
from glasshouse.report.ladder_report import Ladder, LadderRow, ladder_chart, write_ladder_page
from glasshouse.runs import folder as runs
from glasshouse.settings import Recipe
from glasshouse.storage import remove_unfinished, write_bytes, write_json
from glasshouse.wording import ACCURACY, PRECISION
from glasshouse.workflow.compare.seeds import (
    Runner,
    run_all,
    run_quietly,
    seconds_of,
    seed_requests,
)
from glasshouse.workflow.train.experiment import TrainRequest


@dataclass(frozen=True)
class Rung:
    """One step as data: a recipe and its overrides.

    of_epochs: keys whose values are shares of the epochs, such as the length of a cycle. instead:
    a recipe for images that the network of the first one cannot take, if any.
    """

    name: str
    change: str
    recipe: str
    overrides: tuple[str, ...] = ()
    of_epochs: tuple[tuple[str, float], ...] = ()
    instead: str | None = None


RUNGS = (
    Rung("no augmentation", "a small CNN, Adam at 0.001", "tutorial-basic-no-augment"),
    Rung("augmentation", "rotation, translation and horizontal flips", "tutorial-basic"),
    Rung("wider", "more filters, standardised images", "tutorial-wide"),
    Rung("lower rate", "Adam at 0.0001", "tutorial-wide-fixed-lr"),
    Rung(
        "step schedule", "from 0.001, multiplied by 0.3 after each 40 % of the run",
        "tutorial-wide", ("train.schedule={type='step', factor=0.3}",),
        (("train.schedule.every", 0.4),),
    ),
    Rung(
        "BatchNorm", "after the second convolution; the same schedule",
        "tutorial-wide-bn", ("train.lr=1e-3", "train.schedule={type='step', factor=0.3}"),
        (("train.schedule.every", 0.4),),
    ),
    Rung(
        "finder + cyclical", "two triangular cycles between the bounds that the range test found",
        "tutorial-wide-bn", ("train.lr=auto", "train.schedule={type='triangular'}"),
        (("train.schedule.cycle", 0.5),),
    ),
    Rung(
        "finder + one-cycle", "one cycle up to the maximum that the range test found",
        "tutorial-wide-bn", ("train.lr=auto", "train.schedule={type='one_cycle'}"),
    ),
    Rung(
        "our best", "another network with a schedule tuned for it", "fast",
        instead="small-residual",  # for images below 16x16
    ),
)  # fmt: skip


_ENLARGE = "Small images are enlarged for the networks of the ladder with --image-size 32"


def rung_recipe(rung: Rung, epochs: int, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a step under a budget; the overrides apply to every step and come last."""
    shares = [f"{key}={share * epochs:g}" for key, share in rung.of_epochs]
    fixed = [*rung.overrides, *shares, f"train.epochs={epochs}"]
    return load_recipe(rung.recipe, [*fixed, *overrides])


def climb(
    request: TrainRequest,
    *,
    overrides: Sequence[str] = (),
    seeds: int = 3,
    rungs: Sequence[Rung] = RUNGS,
    run: Runner = run_quietly,
    on_step: Callable[[Ladder], None] = lambda ladder: None,
) -> Ladder:
    """Run every step with every seed, each in its own folder, and write table, chart and page.

    The budget is ``train.epochs`` of the request's recipe; the rest of that recipe is ignored.
    Finished folders are kept, so that repeating the call resumes it. A step whose training
    diverges, or whose range test finds no learning rate, is marked as failed and skipped.

    on_step: called with the ladder so far after each step. Raises UsageError without seeds or
    steps, ModelError when the network of the first step cannot take the images, and DivergedError
    when no step could be trained.
    """
    epochs = request.recipe.train.epochs
    if seeds < 1 or not rungs:
        raise UsageError(f"ladder: expected a step and a seed or more, received {seeds} seeds")
    rows: list[LadderRow] = []
    before: _Measured | None = None
    for number, rung in enumerate(rungs, start=1):
        step = replace(request, out=_step_folder(request.out, number, rung))
        try:
            row, before = _step(rung, step, (seeds, overrides), run, before)
        except ModelError as error:
            if not rows:
                # Without its first step, a ladder has nothing to compare the others with.
                raise ModelError(f"{error}. {_ENLARGE}") from error
            row = _failed(rung, error)
        rows.append(row)
        if before is not None:
            ladder = Ladder(request.source, epochs, seeds, before.scores.shape[1], tuple(rows))
            _write(ladder, request.out)
            on_step(ladder)
    if before is None:
        raise DivergedError(f"no step of the ladder could be trained: {rows[-1].problem}")
    return ladder


def ladder_requests(
    request: TrainRequest,
    *,
    overrides: Sequence[str] = (),
    seeds: int = 3,
    rungs: Sequence[Rung] = RUNGS,
) -> tuple[TrainRequest, ...]:
    """Every run that `climb` trains, unless a step needs another recipe for these images."""
    epochs = request.recipe.train.epochs
    steps = (
        replace(
            request,
            recipe=rung_recipe(rung, epochs, overrides),
            out=_step_folder(request.out, number, rung),
        )
        for number, rung in enumerate(rungs, start=1)
    )
    return tuple(each for step in steps for each in seed_requests(step, seeds))


def _step_folder(out: Path, number: int, rung: Rung) -> Path:
    """The folder of a step, which has one for each seed."""
    return out / f"{number}-{rung.name.replace(' ', '-')}"


@dataclass(frozen=True)
class _Measured:
    """The last step that finished: `image_scores` ``(seeds, images)``, ids, and their metric."""

    scores: NDArray[np.float64]
    ids: NDArray[np.str_]
    metric: str


def _step(
    rung: Rung,
    request: TrainRequest,
    how: tuple[int, Sequence[str]],
    run: Runner,
    before: _Measured | None,
) -> tuple[LadderRow, _Measured | None]:
    """One step: its row, and what the next is compared with; how: seeds and overrides."""
    seeds, overrides = how
    recipe = rung_recipe(rung, request.recipe.train.epochs, overrides)
    step = replace(request, recipe=recipe, resume=True)
    try:
        finished = run_all(seed_requests(step, seeds), run)
    except ModelError:
        if rung.instead is None:
            raise
        # In another folder, because a run cannot be resumed with another recipe.
        other = replace(request, out=request.out.with_name(f"{request.out.name}-{rung.instead}"))
        return _step(replace(rung, recipe=rung.instead, instead=None), other, how, run, before)
    except (DivergedError, NoUsableRate) as error:
        return _failed(rung, error), before
    now = _measure(finished)
    if before is not None and not np.array_equal(before.ids, now.ids):
        raise DataError(
            f"the test images of '{rung.name}' are not those of the previous step, so the two "
            "cannot be compared. Do not override data.* for single steps."
        )
    row = LadderRow(
        name=rung.name,
        change=rung.change,
        recipe=rung.recipe,
        scores=tuple(now.scores.mean(axis=1).tolist()),
        score=paired_gain(np.zeros_like(now.scores), now.scores).within(0, 1),
        gain=None if before is None else paired_gain(before.scores, now.scores).within(-1, 1),
        seconds=sum(map(seconds_of, finished)) / len(finished),
        metric=now.metric,
    )
    return row, now


def _failed(rung: Rung, error: GlasshouseError) -> LadderRow:
    return LadderRow(rung.name, rung.change, rung.recipe, (), None, None, 0.0, str(error))


def _measure(finished: Sequence[runs.Run]) -> _Measured:
    found = [load_predictions(run.folder / runs.PREDICTIONS) for run in finished]
    for run, each in zip(finished, found, strict=True):
        if not np.array_equal(each.ids, found[0].ids):
            raise DataError(
                f"{run.folder / runs.PREDICTIONS} is of other test images than the run with "
                "another seed, so the two cannot be compared. Train both on the same source."
            )
    metric = PRECISION if found[0].is_multi_label else ACCURACY
    return _Measured(np.stack([image_scores(each) for each in found]), found[0].ids, metric)


def _write(ladder: Ladder, folder: Path) -> None:
    rows = [asdict(row) | {"verdict": row.verdict} for row in ladder.rows]
    remove_unfinished(folder)
    write_json(folder / runs.LADDER, asdict(ladder) | {"rows": rows})
    write_bytes(folder / runs.LADDER_CHART, figure_png(ladder_chart(ladder.rows)))
    write_ladder_page(ladder, folder / runs.LADDER_PAGE)
