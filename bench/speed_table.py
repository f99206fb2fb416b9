"""README's table of speed for this machine, as Markdown: `make speed`, more than half an hour.

Runs the scripts whose figures it holds, one after the other, and prints a row for each claim.
Needs the extra `bench`, GLASSHOUSE_DATA, and wrk for the rows about serving. Rows whose script
cannot run here, or stops half way, are left out: which and why is said, and the exit code is 1.
Nothing else should run on the machine meanwhile.

    python bench/speed_table.py [SCRIPT ...]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from contest import machine

HERE = Path(__file__).parent
# Letters of what a script wrote to stderr.
END = 1000


class Row(NamedTuple):
    """A row of the table: what is compared with what, and the claim that the script judges.

    is_share: the figure is the share of the other's speed. is_time: it is how many times as long as
    the other takes, and the row says how many times as fast.
    """

    what: str
    claim: str
    is_share: bool = False
    is_time: bool = False


SCRIPTS: dict[str, list[Row]] = {
    "train_speed": [
        row
        for net in ("tutorial-basic", "tutorial-wide")
        for row in (
            Row(f"training `{net}`, batch 32: Keras 3 with ImageDataGenerator",
                f"{net}: ours / Keras"),
            Row("the same: PyTorch's DataLoader with PIL transforms",
                f"{net}: ours / DataLoader"),
            Row("the same: plain PyTorch steps without loading and augmenting",
                f"{net}: ours / steps on ready batches", is_share=True),
        )
    ],
    "busy 1 2 4": [
        Row(f"training `tutorial-basic` next to {busy}: the better of Keras and DataLoader",
            f"{count} busy: ours / the best peer")
        for count, busy in ((1, "a busy program"), (2, "2 busy programs"), (4, "4 busy programs"))
    ],
    "explain_page": [
        Row("the tutorial's explanations, ResNet50, batch 8: Captum",
            "batch 8: Captum as documented / ours"),
    ],
    "explain_cam": [
        Row("Grad-CAM, ResNet50, one image: pytorch-grad-cam",
            "batch 1: pytorch-grad-cam / ours"),
        Row("the same, batch 8", "batch 8: pytorch-grad-cam / ours"),
        Row("Eigen-CAM's component at 49x2048: the whole SVD", "Eigen-CAM at 49x2048: SVD / ours"),
    ],
    "feature_speed": [
        Row("features of ResNet50 at 224: eager PyTorch",
            "ResNet50 at 224, times plain eager float32"),
    ],
    "finetune_step": [
        Row("full fine-tuning of MobileNetV2: timm's script",
            "full fine-tuning, times timm's script"),
    ],
    "serving small": [
        row
        for who in ("1 client", "8 clients", "64 clients")
        for row in (
            Row(f"serving a small CNN to {who}: plain FastAPI",
                f"{who}, x the better plain handler"),
            Row("the same: LitServe", f"{who}, x LitServe"),
        )
    ],
    "serving mobilenet --clients 64 --servers ours,litserve": [
        Row("serving MobileNetV2 to 64 clients: LitServe", "64 clients, x LitServe"),
    ],
    "many_processes overhead": [
        Row("a step in two processes: DistributedDataParallel",
            "times DistributedDataParallel's step", is_time=True),
    ],
}  # fmt: skip


def main() -> bool:
    """Print the table; whether it is whole."""
    known, asked = {name.split()[0] for name in SCRIPTS}, set(sys.argv[1:])
    if asked - known:
        raise SystemExit(f"expected any of {', '.join(sorted(known))}")
    chosen = [name for name in SCRIPTS if not asked or name.split()[0] in asked]
    lines = [f"{machine()}:", "", "| what: compared with | measured | script |", "|--|--|--|"]
    problems = []
    for name in chosen:
        figures, problem = run(name)
        rows = [row for row in SCRIPTS[name] if row.claim in figures]
        lines += [f"| {row.what} | {words(row, figures[row.claim])} | `{name}` |" for row in rows]
        problems += [problem] if problem else []
    print("\n".join(["", *lines, "", *problems]))
    return not problems


def run(name: str) -> tuple[dict[str, dict[str, Any]], str]:
    """The verdicts that a script prints, by their claims; what went wrong, or nothing."""
    script, *arguments = name.split()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures")
        command = [sys.executable, str(HERE / f"{script}.py"), *arguments]
        environment = {**os.environ, "GLASSHOUSE_FIGURES": str(file)}
        print(f"== {name}", flush=True)
        done = subprocess.run(command, check=False, env=environment, stderr=subprocess.PIPE)
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    figures = {each["claim"]: each for each in map(json.loads, lines)}
    problem = problem_of(name, figures, done.returncode, done.stderr.decode(errors="replace"))
    if problem:
        print(problem, flush=True)
    return figures, problem


def problem_of(name: str, figures: dict[str, dict[str, Any]], code: int, stderr: str) -> str:
    """What is wrong with a script's figures, in words; empty where nothing is.

    A script also ends with 1 where a claim of it does not hold, which is no problem of the table.
    """
    missing = [row for row in SCRIPTS[name] if row.claim not in figures]
    has_failed = code != 0 and all(each["verdict"] == "holds" for each in figures.values())
    if not missing and not has_failed and code in (0, 1):
        return ""
    lines = [f"{name} ended with exit code {code}."]
    if missing:
        lines.append("Rows that are missing, with the claim that was looked for:")
        lines += [f'- {row.what}: "{row.claim}"' for row in missing]
        judged = ", ".join(f'"{claim}"' for claim in figures)
        lines.append(f"Claims that it judged: {judged or 'none'}.")
    if tail := stderr.strip()[-END:]:
        lines.append(f"The end of its errors:\n{tail}")
    return "\n".join(lines)


def words(row: Row, found: dict[str, Any]) -> str:
    """The figure and its interval, or that there is none."""
    if found["median"] is None:
        return "no figure: the rounds disagree"
    if row.is_share:
        share, low, high = (round(100 * found[name]) for name in ("median", "low", "high"))
        return f"{share} % ({low} to {high})"
    figures = [found[name] for name in ("median", "low", "high")]
    if row.is_time:
        figures = [1 / found[name] for name in ("median", "high", "low")]
    median, low, high = (f"{figure:.3g}" for figure in figures)
    return f"{median} times as fast ({low} to {high})"


if __name__ == "__main__":
    sys.exit(not main())
