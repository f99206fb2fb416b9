"""Arguments that can be seen to be wrong are refused before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glasshouse.cli.ladder import FIRST_RECIPE
from glasshouse.recipe import load_recipe, to_toml
from glasshouse.workflow.compare.ladder import RUNGS
from tests.journeys.command import own_environment
from tests.run_files import environment

# Each command is a fork of a process that has imported what all begin with: it takes half a second.
PROGRAM = """
import json, os, sys
from pathlib import Path
from glasshouse.cli.main import main

def run(arguments, told):
    for number in (1, 2):
        os.dup2(os.open(told / str(number), os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["glasshouse", *arguments]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    print("torch imported:", "torch" in sys.modules)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

codes = []
for number, arguments in enumerate(json.load(sys.stdin)):
    told = Path(sys.argv[1]) / str(number)
    told.mkdir()
    if os.fork() == 0:
        run(arguments, told)
    codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("early")
    for name, classes in {"unfinished": None, "run": ["cat", "dog"]}.items():
        (root / name).mkdir()
        (root / name / "recipe.toml").write_text(to_toml(load_recipe("tutorial-basic")))
        (root / name / "environment.json").write_text(json.dumps(environment()))
        if classes is not None:
            (root / name / "model.json").write_text(json.dumps({"class_names": classes}))
    (root / "notes.txt").write_text("x")
    (root / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


BOTH = ["--backbones", "resnet18,resnet34"]
NAME = "model.pretrained.name="
LOST = f"{NAME}resnet81"
WRONG = ["--set", "model.pretrained.arguments.pad_typ=same"]
NO_PAD = "'pad_typ' cannot be set"
CASES = [
    (["predict", "run", "nowhere.png"], 3, "nowhere.png: the file does not exist"),
    (["predict", "unfinished", "photo.png"], 2, "unfinished has not finished training (0 of"),
    (["predict", "runs/nowhere", "photo.png"], 2, "runs/nowhere is not a run folder"),
    (["predict", "resnet18", "photo.png", "--weights", "w.pth"], 2, "weights file w.pth does not"),
    (["predict", "resnet81", "photo.png"], 2, "Did you mean 'resnet18'"),
    (["explain", "timm/resnett50", "photo.png"], 2, "'timm/resnett50' is not a run folder"),
    (["serve", "cifar10-smal", "--port", "0"], 2, "Did you mean 'cifar10-small'"),
    (["export", "resnet81", "--out", "m.onnx"], 2, "Did you mean 'resnet18'"),
    (["summary", "resnet81"], 2, "Did you mean 'resnet18'"),
    (["summary", "small-cn"], 2, "Did you mean 'small-cnn'"),
    (["summary", "small-cnn", "--set", "train.epoch=3"], 2, "'train.epochs'"),
    (["summary", "resnet18", "--set", "train.epochs=3"], 2, "resnet18 is not a recipe"),
    (["summary", "nowhere.toml"], 2, "nowhere.toml"),
    (["summary", "unfinished"], 2, "unfinished has not finished training"),
    (["train", ".", "--out", "new"], 2, "--out new is inside ., where its files would be among"),
    (["check", ".", "--out", "deep/new"], 2, "--out deep/new is inside ."),
    (["train", "digits", "--log", "tensorbord"], 2, "Did you mean 'tensorboard'"),
    (["explain", "run", "nowhere.png"], 3, "nowhere.png: the file does not exist"),
    (["explain", "run"], 2, "expected at least one IMAGE"),
    (["evaluate", "run", "--reread"], 2, "no image comes from the cache; name a source with --on"),
    (["compare", "run", "run", "--reread"], 2, "name a source with --on, or a page with --out"),
    (["explain", "run", "photo.png", "--reread"], 2, "always decoded; use it with --errors"),
    (["evaluate", "run", "--on", "nowhere/x", "--reread"], 3, "nowhere/x does not exist"),
    (["explain", "run", "photo.png", "--class", "cow"], 2, "no class 'cow'"),
    (["explain", "run", "photo.png", "--class", "2"], 2, "no class 2: expected 0 to 1"),
    (["explain", "run", "photo.png", "--method", "gradcam"], 2, "'grad-cam'"),
    (["explain", "run", "photo.png", "--out", "notes.txt"], 2, "notes.txt is a file"),
    (["explain", "nowhere", "--errors"], 2, "nowhere is not a run folder"),
    (["export", "run", "--out", "."], 2, "expected a file name such as model.onnx"),
    *[
        ([*words, *given], 2, "has a network 'resnet81'. Did you mean 'resnet18'?")
        for words, given in (
            (["train", "digits", "--minutes", "1"], ["--backbone", "resnet81"]),
            (["folds", "digits"], ["--backbone", "resnet81"]),
            (["label-errors", "digits"], ["--set", LOST]),
            (["lr-find", "digits"], ["--set", LOST]),
            (["ladder", "digits"], ["--set", LOST]),
            (["summary", "small-cnn"], ["--set", LOST]),
            (["compare-backbones", "digits"], ["--backbones", "resnet18,resnet81"]),
            (["tune", "digits"], ["--search", f"{NAME}resnet18,resnet81"]),
        )
    ],
    *[
        ([*words, *given], 2, f"resnet18: {refused}")
        for words, given, refused in (
            (["train", "digits"], ["--backbone", "resnet18:pad_typ=same"], NO_PAD),
            (["folds", "digits"], ["--backbone", "resnet18", *WRONG], NO_PAD),
            (["ladder", "digits"], ["--set", f"{NAME}resnet18:act_layer=a/b"], "act_layer='a/b'"),
            (["compare-backbones", "digits"], [*BOTH, *WRONG], NO_PAD),
            (["tune", "digits"], ["--search", f"{NAME}resnet18,resnet34", *WRONG], NO_PAD),
        )
    ],
    (["predict", "resnet18:pad_typ=same", "photo.png"], 2, "Did you mean 'pad_type'?"),
    (["serve", "resnet18:in_chans=2", "--port", "0"], 2, "in_chans=2: expected 1"),
    (["export", "resnet18:stem=fine", "--out", "m.onnx"], 2, "changes a network before it is"),
    (["explain", "resnet18:weights=w.pth", "photo.png"], 2, "weights file w.pth does not"),
    (["summary", "resnet18:stem=fine"], 2, "changes a network before it is trained"),
    (["summary", "small-cnn:width=2"], 2, "only networks of torchvision and timm take"),
    (["summary", "cifar10-small:width=2"], 2, "takes no other weights or arguments"),
    (["predict", "cifar10-small", "photo.png", "--weights", "notes.txt"], 2, "its own weights"),
    (["models", "resnet1"], 2, "no network matches 'resnet1'"),
    (["train", "digits", "--set", "model.preset=small-cn"], 2, "Did you mean 'small-cnn'?"),
    (["compare-backbones", "digits", *BOTH, "--on", "host"], 2, "--on host: expected ray"),
    (["folds", "digits", "--on", "host"], 2, "--on host: expected ray"),
    (["label-errors", "digits", "--on", "host"], 2, "--on host: expected ray"),
    (["compare-backbones", "digits"], 2, "needs --backbones A,B,C or --backbone NAME"),
    (["compare-backbones", "digits", "--backbone", "resnet18"], 2, "two networks or more"),
    (["compare-backbones", "digits", "--backbones", "a,a"], 2, "two networks or more"),
    (["compare-backbones", "nowhere/x", *BOTH], 3, "nowhere/x does not exist"),
    (["compare-backbones", "digits", *BOTH, "--run", "unfinished"], 2, "not finished"),
    (["compare-backbones", "digits", *BOTH, "--out", "a.txt"], 2, "ending in .html"),
    (["train", "digit"], 2, "'digits'"),
    (["train", "digits", "--set", "train.epoch=3"], 2, "'train.epochs'"),
    (["train", "digits", "--out", "run"], 2, "run is not empty"),
    (["train", "digits", "--out", "notes.txt"], 2, "notes.txt is a file"),
    (["train", "digits", "--seeds", "0"], 2, "--seeds"),
    (["train", "digits", "--backbone", "resnet18", "--weights", "w.pth"], 2, "w.pth does not"),
    (["lr-find", "digits", "--rule", "valey"], 2, "'valley'"),
    (["lr-find", "digits", "--out", "curve.jpg"], 2, "ending in .png"),
    (["lr-find", "digits", "--out", "notes.txt/curve.png"], 2, "notes.txt is a file"),
    (["compare", "run", "run", "--out", "notes.txt/page.html"], 2, "notes.txt is a file"),
    (["export", "cifar10-small", "--out", "notes.txt/m.onnx"], 2, "notes.txt is a file"),
    (["tour", "--out", "notes.txt"], 2, "notes.txt is a file"),
    (["tune", "digits"], 2, "needs a --search"),
    (["tune", "digits", "--search", "train.lr=1..2", "--workers", "0"], 2, "--workers"),
    (["ladder", "digits", "--set", "train.epoch=3"], 2, "'train.epochs'"),
    (["folds", "digits", "--folds", "1"], 2, "--folds"),
    (["folds", "digits", "--out", "run"], 2, "run is not empty"),
    (["label-errors", "digits", "--out", "notes.txt"], 2, "notes.txt is a file"),
    (["check", "digits", "--out", "notes.txt/deep"], 2, "notes.txt is a file"),
    (
        ["train", "digits", "--resume", "--out", "unfinished", "--seeds", "2"],
        2,
        "unfinished holds a single run: leave --seeds out",
    ),
    (
        ["train", "digits", "--resume", "--out", "unfinished/recipe.toml"],
        2,
        "expected a folder, but unfinished/recipe.toml is a file",
    ),
    (["evaluate", "unfinished"], 2, "/unfinished --resume"),
    (["compare", "run"], 2, "two run folders or more"),
    (["reproduce", "run", "--out", "run"], 2, "is the run itself"),
]


@pytest.fixture(scope="module")
def outcomes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str]]:
    """Of each case: exit code, output and errors."""
    told = tmp_path_factory.mktemp("told")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(told)], cwd=folder, env=own_environment(folder),
        input=json.dumps([arguments for arguments, _, _ in CASES]), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [
        (code, *((told / str(number) / each).read_text(encoding="utf-8") for each in "12"))
        for number, code in enumerate(json.loads(done.stdout))
    ]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(c[0]) for c in CASES])
def test_a_wrong_argument_is_refused_before_torch_is_imported(
    outcomes: list[tuple[int, str, str]], number: int
) -> None:
    _, code, message = CASES[number]
    found, output, errors = outcomes[number]
    assert found == code, errors
    assert message in errors
    assert output == "torch imported: False\n"


def test_the_ladder_checks_overrides_against_its_first_step() -> None:
    assert RUNGS[0].recipe == FIRST_RECIPE
