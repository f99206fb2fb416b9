"""Coverage of prediction sets over many re-splits, on images that no classifier was trained on.

The answers of `cifar10-small` on the CIFAR-10 test split, and those of a head on MobileNetV2's
features on the ants and bees that it was not fitted to, are split at random again and again: one
half calibrates, the other is measured. The share of sets that cover is then beta-binomial (Vovk
2012), since each calibration has a coverage of its own; the interval is the central 95 % of that.
Of 20 re-splits of a correct method, 19 or 20 are inside in three of four cases: the number is
printed, and the share of 10,000 re-splits, which an own short computation of "lac" measures, is
claimed. It has to agree with ours in each of the 20.
Claims: inside in at least 19 of 20 for "lac", as a share of the 10,000; for "aps" and "raps", which
cover more than asked for where the accuracy is higher, not below it in at least 19 of 20.
Run: GLASSHOUSE_DATA=DATA python bench/coverage.py
"""

import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from contest import judge, machine
from scipy.special import softmax
from scipy.stats import betabinom
from transfer_hymenoptera import BACKBONE, DATA, WEIGHTS

from glasshouse.cli.options import backbone_overrides
from glasshouse.data.sources import load_splits
from glasshouse.evaluation.set_coverage import measure_sets
from glasshouse.models.bundled import load_bundled
from glasshouse.models.conformity import SetMethod, conformity_scores
from glasshouse.models.predict import Predictions, load_predictions, predict
from glasshouse.recipe import load_recipe
from glasshouse.runs import folder as runs
from glasshouse.settings import DataSettings
from glasshouse.workflow.train.experiment import TrainRequest
from glasshouse.workflow.train.feature_run import run_features

RESPLITS, MANY, LEVEL = 20, 10_000, 0.95


def cifar() -> Predictions:
    """Of the bundled classifier on the test split."""
    return predict(load_bundled("cifar10-small"), load_splits("cifar10", DataSettings()).test)


def ants_and_bees() -> Predictions:
    """Of a head on frozen features, on the validation and the test split together."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        recipe = load_recipe("transfer-features", backbone_overrides(BACKBONE, WEIGHTS))
        run_features(TrainRequest(str(DATA / "hymenoptera"), recipe, out))
        parts = [load_predictions(out / name)
                 for name in (runs.VALIDATION_PREDICTIONS, runs.PREDICTIONS)]  # fmt: skip
    return replace(
        parts[0],
        logits=np.concatenate([each.logits for each in parts]),
        targets=np.concatenate([each.targets for each in parts]),
        ids=np.concatenate([each.ids for each in parts]),
    )


def rows_of(answers: Predictions, rows: np.ndarray) -> Predictions:
    return replace(
        answers, logits=answers.logits[rows], targets=answers.targets[rows], ids=answers.ids[rows]
    )


def resplit(
    answers: Predictions, seed: int, coverage: float, method: SetMethod
) -> tuple[float, float, tuple[float, float]]:
    """Measured coverage, mean size, and the interval of the coverage, of one re-split."""
    order = np.random.default_rng(seed).permutation(len(answers))
    half = len(answers) // 2
    known, asked = rows_of(answers, order[:half]), rows_of(answers, order[half:])
    scores = conformity_scores(
        known.probabilities, known.labels, temperature=answers.temperature, source="one half"
    )
    assert scores is not None
    found = measure_sets(asked, scores.rule(coverage, method))
    return found.coverage.value, found.mean_size.value, interval_of(len(answers), coverage)


def interval_of(count: int, coverage: float) -> tuple[float, float]:
    """Where the coverage of a re-split of this many images is in 95 % of all cases, or in more."""
    half = count // 2
    rank = math.ceil(round((half + 1) * coverage, 9))
    low, high = betabinom(count - half, rank, half + 1 - rank).interval(LEVEL)
    return low / (count - half), high / (count - half)


def plain_coverages(answers: Predictions, coverage: float, count: int) -> np.ndarray:
    """The coverage of "lac" in each of the first re-splits, without anything of ours."""
    own = answers.logits / answers.temperature
    scores = 1 - softmax(own.astype(float), axis=1)[np.arange(len(answers)), answers.labels]
    half, found = len(answers) // 2, np.empty(count)
    rank = math.ceil(round((half + 1) * coverage, 9))
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(answers))
        # A rank beyond the images has no limit: each set has every class.
        limit = np.sort(scores[order[:half]])[rank - 1] if rank <= half else np.inf
        found[seed] = (scores[order[half:]] <= limit).mean()
    return found


def main() -> None:
    print(machine())
    holds = []
    for name, answers in (("cifar10-small", cifar()), ("ants and bees", ants_and_bees())):
        right = (answers.logits.argmax(axis=1) == answers.labels).mean()
        print(f"{name}: {len(answers):,} images, accuracy {right:.2%}")
        for coverage in (0.90, 0.95):
            for method in ("lac", "aps", "raps"):
                rounds = [resplit(answers, seed, coverage, method) for seed in range(RESPLITS)]
                inside = sum(low <= value <= high for value, _, (low, high) in rounds)
                above = sum(low <= value for value, _, (low, _) in rounds)
                mean, size = (np.mean([each[i] for each in rounds]) for i in (0, 1))
                print(f"  {method:<4} {coverage:.0%}: covers {mean:.2%} on average, {size:.3f} "
                      f"classes; inside {inside}, not below {above} of {RESPLITS}")  # fmt: skip
                what = f"{name}, {method} at {coverage:.0%}"
                if method != "lac":
                    holds.append(judge(f"{what}: re-splits that are not below", above, 19))
                    continue
                low, high = interval_of(len(answers), coverage)
                many = plain_coverages(answers, coverage, MANY)
                apart = np.abs(many[:RESPLITS] - [value for value, _, _ in rounds]).max()
                holds.append(judge(f"{what}: ours and the plain ones differ by", apart, 1e-9,
                                   at_least=False))  # fmt: skip
                share = 100 * ((low <= many) & (many <= high)).mean()
                holds.append(judge(f"{what}: inside, % of {MANY:,}", share, 95))
    sys.exit(not all(holds))


if __name__ == "__main__":
    main()
