"""A search with two workers loses no finished trial when workers, or all of it, are killed.

Kills a worker every few seconds, and once the whole search; then asks the same command to go on.
Claims: no finished trial is lost or changed; every lost trial has been run again; as many trials
end as were asked for. Needs the extra `tune`; reads the digits that come with scikit-learn.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contest import judge, machine, require

TRIALS, WORKERS, KILLS = 30, 2, 5


def command(out: Path) -> list[str]:
    settings = ["train.epochs=15", "train.device=cpu", "train.precision=fp32"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return [
        sys.executable, "-m", "glasshouse", "tune", "digits", "--recipe", "small-cnn", *sets,
        "--search", "train.lr=1e-4..1e-2:log", "--search", "train.batch_size=32,64",
        "--trials", str(TRIALS), "--workers", str(WORKERS), "--out", str(out), "--no-prune",
        "--json",
    ]  # fmt: skip


def workers_of(pid: int) -> list[int]:
    """The worker processes of a search; its resource tracker is left alone."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return [child for child, words in commands.items() if b"spawn_main" in words]


def finished(out: Path) -> dict[int, float]:
    """The value of every finished trial, read from the journal as any other program would."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    from glasshouse.runs.folder import JOURNAL
    from glasshouse.workflow.tune.study import records

    if not (out / JOURNAL).is_file():
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = JournalFileBackend(str(out / JOURNAL))
    storage = optuna.storages.JournalStorage(backend)
    if not storage.get_all_studies():
        return {}
    study = optuna.load_study(study_name="tune", storage=storage)
    return {r.number: r.value for r in records(study) if r.state == "complete" and r.value}


def kill_workers(out: Path, moments: random.Random) -> dict[int, float]:
    """Start, kill a worker now and then, at last the search itself; what had finished by then."""
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: dict[int, float] = {}
    for _ in range(KILLS):
        time.sleep(moments.uniform(8, 12))
        alive = workers_of(process.pid) if process.poll() is None else []
        if alive:
            victim = moments.choice(alive)
            os.kill(victim, signal.SIGKILL)
            print(f"  killed worker {victim}", flush=True)
        seen |= finished(out)
    if process.poll() is None:
        process.kill()
        print("  killed the search", flush=True)
    process.wait()
    return seen | finished(out)


def main() -> None:
    require("optuna", "pip install -e '.[tune]'")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "search"
        before = kill_workers(out, random.Random(0))
        print(f"  {len(before)} trials had finished")
        done = subprocess.run(command(out), capture_output=True, text=True, check=True)
        after = finished(out)
        trials = json.loads(done.stdout)["trials"]
    changed = sum(after.get(number) != value for number, value in before.items())
    states = [trial["state"] for trial in trials]
    for trial in trials:
        if trial["state"] not in ("complete", "lost"):
            print(f"  trial {trial['number']}: {trial['state']} {trial['problem']}")
    print(f"  {states.count('lost')} lost trials were run again")
    held = [
        judge("finished trials lost or changed", changed, 0, at_least=False),
        judge("finished trials in the end", states.count("complete"), TRIALS),
        judge("workers' trials that were killed", states.count("lost"), 1),
    ]
    raise SystemExit(not all(held))


if __name__ == "__main__":
    main()
