"""One recipe in 1, 2 and 4 processes, also killed and resumed with another number: same bytes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.data.shard_files import images_below
from tests.journeys.command import (
    COMMAND,
    LONGEST_S,
    glasshouse,
    glasshouse_signalled,
    own_environment,
    start,
    wait_for_file,
)
from tests.journeys.test_kill import resume_if_begun
from tests.journeys.test_train import epochs, result_bytes

# Everything whose randomness, statistics or choices could depend on who computes what.
RECIPE = """
name = "everything"
[data]
train_limit = 200
[augment]
rotation_range = 10
horizontal_flip = true
mixup = 0.2
cutmix = 0.5
[model]
layers = [
    {type = "conv", filters = 8},
    {type = "batch_norm"},
    {type = "activation", activation = "relu"},
    {type = "max_pool"},
    {type = "dropout", rate = 0.2},
    {type = "flatten"},
    {type = "dense", units = 10},
]
[train]
epochs = 4
batch_size = 32
shards = 4
lr = 0.01
precision = "fp32"
sampling = "balanced"
ema_decay = 0.9
keep = "best"
early_stopping = 3
gradient_clip = 1.0
"""
LONG = ["--set", "train.epochs=40", "--set", "train.early_stopping=40"]
# Steps so large that the loss does not fall for long.
RISING = ["--set", "train.epochs=40", "--set", "train.early_stopping=2", "--set", "train.lr=0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    (place / "all.toml").write_text(RECIPE, encoding="utf-8")
    return place


def arguments(out: str, processes: int, *more: str) -> list[str]:
    return ["train", "digits", "--recipe", "all.toml", *more,
            "--processes", str(processes), "--out", out]  # fmt: skip


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The run of one process."""
    glasshouse(*arguments("alone", 1), cwd=folder)
    return folder / "alone"


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Path:
    """The run of one process that keeps what two images looked like to it."""
    glasshouse(*arguments("drawn", 1, "--snapshots", "2"), cwd=folder)
    return folder / "drawn"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_every_number_of_processes_gives_the_same_bytes(
    folder: Path, drawn: Path, processes: int
) -> None:
    done = glasshouse(
        *arguments(f"p{processes}", processes, "--snapshots", "2"), "--json", cwd=folder
    )
    run = folder / f"p{processes}"
    assert result_bytes(run) == result_bytes(drawn)
    assert epochs(run) == epochs(drawn)
    # One process writes, and one tells.
    assert json.loads(done.stdout)["run"] == f"p{processes}"
    assert done.stderr.count("epoch 1/4") == 1
    # All of it, as neither maps, nor pages, nor the strip hold a time.
    assert images_below(run / "snapshots") == images_below(drawn / "snapshots")
    assert len(list((drawn / "snapshots").glob("epoch-*/*.npy"))) == 2 * 5


def stopped_early(folder: Path, out: str, processes: int, *more: str) -> dict[str, bytes]:
    """The results of a run whose validation loss soon rises, long before its last epoch."""
    done = glasshouse(*arguments(out, processes, *RISING, *more), cwd=folder)
    losses = [epoch["validation_loss"] for epoch in epochs(folder / out)]
    assert 2 < len(losses) < 40
    assert losses.index(min(losses)) < len(losses) - 1
    assert f"Training stopped early, after epoch {len(losses)} of 40" in done.stderr
    return result_bytes(folder / out)


@pytest.mark.slow
def test_a_run_that_stops_early_keeps_the_same_epoch_in_several_processes(folder: Path) -> None:
    alone = stopped_early(folder, "early1", 1)
    assert stopped_early(folder, "early2", 2) == alone
    assert epochs(folder / "early2") == epochs(folder / "early1")
    # The best epoch was kept: the last one has other weights.
    last = stopped_early(folder, "early-last", 1, "--set", "train.keep=last")
    assert last["model.safetensors"] != alone["model.safetensors"]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_two_processes_with_a_gpu_each_give_the_bytes_of_one(folder: Path) -> None:
    found = []
    for processes in (1, 2):
        out = f"gpus{processes}"
        done = glasshouse(*arguments(out, processes, "--device", "cuda"), cwd=folder)
        assert done.stderr.count("epoch 1/4") == 1
        environment = json.loads((folder / out / "environment.json").read_text(encoding="utf-8"))
        assert environment["device"] == torch.cuda.get_device_name(0)
        found.append(result_bytes(folder / out))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_rate_that_is_found_is_the_same_in_several_processes(folder: Path) -> None:
    found = []
    for processes in (1, 2):
        auto = ["--set", "train.lr=auto", "--set", "train.epochs=1"]
        glasshouse(*arguments(f"auto{processes}", processes, *auto), cwd=folder)
        found.append(result_bytes(folder / f"auto{processes}"))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_transfer_run_unfreezes_alike_in_several_processes(folder: Path) -> None:
    recipe = [
        "train", "shapes", "--backbone", "resnet10t:weights=none,input_size=32",
        "--set", "train.shards=4", "--set", "train.epochs=3", "--set", "transfer.way=gradual",
        "--set", "data.train_limit=64",
    ]  # fmt: skip
    found = []
    for processes in (1, 4):
        out = f"transfer{processes}"
        glasshouse(*recipe, "--processes", str(processes), "--out", out, cwd=folder)
        found.append(result_bytes(folder / out))
    assert found[0] == found[1]


# Half a minute of processor time; CI runs it nevertheless.
@pytest.mark.slow
def test_two_nodes_of_torchrun_give_the_same_bytes(folder: Path, alone: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--master-addr", "127.0.0.1", "--master-port", str(free_port()),
    ]  # fmt: skip
    train = arguments("nodes", 2)
    rest = ["-m", "glasshouse", *train]
    nodes = [
        subprocess.Popen(
            [*command, "--node-rank", str(rank), *rest], cwd=folder,
            env=own_environment(folder), stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    errors = [node.communicate(timeout=LONGEST_S)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(errors)
    assert result_bytes(folder / "nodes") == result_bytes(alone)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_processes_and_another_number_resumes(
    folder: Path, number: signal.Signals, code: int
) -> None:
    out = f"stopped{code}"
    stopped = glasshouse_signalled(
        *arguments(out, 2, *LONG), cwd=folder, number=number, out=folder / out, when="metrics.jsonl"
    )
    assert stopped.returncode == code, stopped.stderr
    assert stopped.stderr.count("everything is saved. Resume with:") == 1
    assert "Traceback" not in stopped.stderr
    glasshouse(*arguments(out, 4, *LONG), "--resume", cwd=folder)
    if not (folder / "long").exists():
        glasshouse(*arguments("long", 1, *LONG), cwd=folder)
    assert result_bytes(folder / out) == result_bytes(folder / "long")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "said"),
    [
        ("0", "a process of this training was killed (SIGKILL), perhaps because memory ran out"),
        ("1", "another process of this training has ended"),
    ],
)
def test_a_killed_process_ends_all_and_the_run_can_be_resumed(
    folder: Path, rank: str, said: str
) -> None:
    out = f"lost-{rank}"
    process = start(*arguments(out, 2, *LONG), cwd=folder)
    wait_for_file(folder / out, "metrics.jsonl", process)
    members = {member.environ()["RANK"]: member for member in workers_of(process.pid)}
    assert members.keys() == {"0", "1"}
    members[rank].kill()
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 3, errors
    assert errors.count("Resume the run") == 1
    assert said in errors
    assert "Traceback" not in errors
    assert not [member for member in members.values() if member.is_running()]
    glasshouse(*arguments(out, 1, *LONG), "--resume", cwd=folder)
    if not (folder / "long").exists():
        glasshouse(*arguments("long", 1, *LONG), cwd=folder)
    assert result_bytes(folder / out) == result_bytes(folder / "long")


@pytest.mark.slow
def test_processes_end_with_a_launcher_that_was_killed(folder: Path) -> None:
    process = start(*arguments("orphans", 2, *LONG), cwd=folder)
    wait_for_file(folder / "orphans", "metrics.jsonl", process)
    members = workers_of(process.pid)
    process.kill()
    process.communicate(timeout=LONGEST_S)
    psutil.wait_procs(members, timeout=60)
    assert not [member for member in members if member.is_running()]


@pytest.mark.slow
def test_random_kills_and_other_numbers_of_processes_end_with_the_same_bytes(folder: Path) -> None:
    begun = time.monotonic()
    glasshouse(*arguments("reference", 2, *LONG), cwd=folder)
    seconds = time.monotonic() - begun
    draws = random.Random(0)
    for _ in range(5):
        again = resume_if_begun(folder / "killed")
        command = [*COMMAND, *arguments("killed", draws.choice([1, 2, 4]), *LONG), *again]
        process = subprocess.Popen(
            command, cwd=folder, env=own_environment(folder), stderr=subprocess.DEVNULL
        )
        time.sleep(draws.uniform(0.3, 0.9) * seconds)
        members = [psutil.Process(process.pid), *workers_of(process.pid)]
        draws.choice(members).kill()
        process.wait(LONGEST_S)
        psutil.wait_procs(members, timeout=60)
    again = resume_if_begun(folder / "killed")
    glasshouse(*arguments("killed", 4, *LONG), *again, cwd=folder)
    assert result_bytes(folder / "killed") == result_bytes(folder / "reference")


@pytest.mark.parametrize(
    ("processes", "more", "message"),
    [
        (3, [], "3 processes cannot share the shards of a batch: expected a power of two"),
        pytest.param(
            2,
            ["--set", "train.shards=1"],
            "2 processes cannot share train.shards = 1",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            2, ["--minutes", "1"], "--minutes measures one process", marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(
    folder: Path, processes: int, more: list[str], message: str
) -> None:
    done = glasshouse(*arguments("refused", processes, *more), cwd=folder, code=2)
    assert message in done.stderr
    assert not (folder / "refused" / "recipe.toml").exists()


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        done = subprocess.run(
            [*COMMAND, *arguments("taken", 2)], cwd=folder, capture_output=True, text=True,
            env={**own_environment(folder), **given, "MASTER_PORT": str(port)}, check=False,
            timeout=LONGEST_S,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"127.0.0.1:{port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


def workers_of(launcher: int) -> list[psutil.Process]:
    """The processes that a launcher has started to train; none where it has ended."""
    try:
        children = psutil.Process(launcher).children()
        return [child for child in children if "RANK" in child.environ()]
    except psutil.Error:
        return []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_environment_of_these_tests_names_no_launcher() -> None:
    assert "WORLD_SIZE" not in os.environ
