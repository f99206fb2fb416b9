"""--net, --weights and --class-names on the command line, for every command that takes them."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from glasshouse.serving.service import server
from glasshouse.storage import read_tensors, write_tensors
from tests.journeys.command import glasshouse_here
from tests.serving.service.conftest import Caller

CODE = """
from torch import nn

def small(num_classes, width=4):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.layers = small(num_classes)

    def forward(self, x):
        return self.layers(x)
"""
NAMES, SIDE = ("wasp", "ant", "bee"), 12
NET = "nets.py:small:width=5,input_size=12,mean=0.4,0.5,0.6,std=0.2"
OPTIONS = ("--net", NET, "--weights", "own.safetensors", "--class-names", "names.txt")
Run = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture
def net() -> nn.Sequential:
    """What the options name, built by hand."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3)
        )


@pytest.fixture
def images(net: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a subfolder per class, next to the code, the weights and the class names."""
    (tmp_path / "nets.py").write_text(CODE)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    # As DataParallel writes it.
    weights = {f"module.{name}": value for name, value in net.state_dict().items()}
    write_tensors(tmp_path / "own.safetensors", weights, {})
    random = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLASSHOUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "images"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command with --json and returns its document."""

    def run(*arguments: str) -> Any:
        code, output, errors = glasshouse_here([*arguments, "--json"], capsys)
        assert code == 0, errors
        return json.loads(output)

    return run


def probabilities(net: nn.Module, path: Path) -> Tensor:
    """By hand: normalisation, network, softmax."""
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
    inputs = (pixels - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
    with torch.no_grad():
        found: Tensor = net(inputs).softmax(1)[0]
    return found


def test_predict_answers_with_the_named_weights_and_classes(
    run: Run, net: nn.Module, images: Path
) -> None:
    path = images / "bee" / "0.png"
    (answer,) = run("predict", str(path), *OPTIONS)
    expected = dict(zip(NAMES, probabilities(net, path).tolist(), strict=True))
    assert {each["class"]: each["probability"] for each in answer["top"]} == pytest.approx(
        expected, abs=1e-5
    )


def test_explain_explains_the_class_that_predict_names(
    run: Run, net: nn.Module, images: Path, tmp_path: Path
) -> None:
    path = images / "bee" / "0.png"
    (answer,) = run("explain", str(path), *OPTIONS, "--method", "all", "--out", "out")
    expected = probabilities(net, path)
    assert answer["predicted"] == NAMES[int(expected.argmax())]
    assert answer["probability"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert list((tmp_path / "out").rglob("grad-cam.png"))


def test_summary_counts_the_parameters_for_these_classes(
    run: Run, net: nn.Module, images: Path
) -> None:
    found = run("summary", *OPTIONS)
    assert found["parameters"] == sum(each.numel() for each in net.parameters())


def test_evaluate_measures_the_named_weights(run: Run, net: nn.Module, images: Path) -> None:
    found = run("evaluate", "--on", str(images), *OPTIONS)
    right = [
        NAMES[int(probabilities(net, path).argmax())] == path.parent.name
        for path in images.glob("*/*.png")
    ]
    assert len(right) == 18
    assert found["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_evaluate_measures_weights_for_a_network_of_a_library(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    model = ["test_resnet", "--weights", "theirs.pth", "--class-names", "names.txt"]
    code, output, errors = glasshouse_here(
        ["evaluate", *model, "--on", str(images), "--json"], capsys
    )
    assert code == 0, errors
    answers = json.loads(
        glasshouse_here(["predict", *model, *map(str, images.glob("*/*.png")), "--json"], capsys)[1]
    )
    right = [each["top"][0]["class"] == Path(each["image"]).parent.name for each in answers]
    assert json.loads(output)["accuracy"]["value"] == pytest.approx(np.mean(right))
    code, _, errors = glasshouse_here(["evaluate", *model], capsys)
    assert code == 2 and "test_resnet needs images to be evaluated on: add --on SOURCE" in errors


def test_export_writes_the_named_weights_and_classes(
    run: Run, net: nn.Module, images: Path
) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = images / "bee" / "0.png"
    run("export", *OPTIONS, "--out", "own.onnx")
    pixels = np.array(Image.open(path)).transpose(2, 0, 1)[None]
    session = runtime.InferenceSession("own.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": pixels})
    np.testing.assert_allclose(found[0], probabilities(net, path), atol=1e-5)
    facts = {each.key: each.value for each in onnx.load("own.onnx").metadata_props}
    assert json.loads(facts["class_names"]) == list(NAMES)


def test_serve_answers_with_the_named_weights_and_classes(
    net: nn.Module,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    apps: list[Any] = []
    monkeypatch.setattr(server, "run", lambda app, *_: apps.append(app))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.delenv("GLASSHOUSE_API_KEY", raising=False)
    code, output, errors = glasshouse_here(["serve", *OPTIONS, "--port", "0"], capsys)
    assert code == 0, errors
    assert "nets.py" in output and "3 classes" in output
    path = images / "bee" / "0.png"
    said = Caller(apps[0])("POST", "/predict", content=path.read_bytes()).json()
    expected = dict(zip(NAMES, probabilities(net, path).tolist(), strict=True))
    assert {each["class"]: each["probability"] for each in said["predictions"][0]["top"]} == (
        pytest.approx(expected, abs=1e-5)
    )


def test_train_and_the_commands_after_it_take_code(
    run: Run, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("train.epochs=1", "train.batch_size=4")
    sets = [each for setting in settings for each in ("--set", setting)]
    net = "nets.py:Net:input_size=12"
    run("train", str(images), "--net", net, "--out", "run", *sets)
    path = str(images / "bee" / "0.png")
    (answer,) = run("predict", "run", path, "--net", net)
    assert {each["class"] for each in answer["top"]} == set(NAMES)
    assert run("evaluate", "run", "--on", str(images), "--net", net)["accuracy"]
    code, output, errors = glasshouse_here(["predict", "run", path], capsys)
    assert code == 2 and not output and "--net" in errors


def test_commands_that_repeat_a_run_of_own_code_name_the_code(
    run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "nets.py:Net:input_size=12"
    run(
        "train",
        str(images),
        "--net",
        code,
        "--out",
        "one",
        "--epochs",
        "1",
        "--set",
        "train.seed=4",
    )
    exit_code, _, errors = glasshouse_here(["reproduce", "one", "--out", "two"], capsys)
    (again, compare) = re.findall(r"glasshouse (train .*); .*: glasshouse (compare .*)", errors)[0]
    assert exit_code == 2
    run(*shlex.split(again))
    assert run(*shlex.split(compare))
    one, two = (read_tensors(tmp_path / each / "model.safetensors")[0] for each in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    more = ["train", str(images), "--net", code, "--out", "one", "--resume", "--epochs", "2"]
    _, _, errors = glasshouse_here([*more, "--set", "train.seed=4"], capsys)
    (command,) = re.findall("Train another run instead: glasshouse (.*)", errors)
    assert shlex.split(command)[4:6] == ["--net", shlex.split(again)[5]]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("predict", "x.png"), "3 values per image, but there are 2 classes"),
        (("explain", "x.png"), "3 values per image, but there are 2 classes"),
        (("summary",), "3 values per image, but there are 2 classes"),
        (("evaluate", "--on", "images"), "3 values per image, but there are 2 classes"),
        (("export", "--out", "x.onnx"), "3 values per image, but there are 2 classes"),
        (("serve", "--port", "0"), "3 values per image, but there are 2 classes"),
    ],
)
def test_every_command_refuses_other_class_names(
    command: tuple[str, ...], message: str, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("two.txt").write_text("ant\nbee")
    Image.new("RGB", (SIDE, SIDE)).save("x.png")
    options = ("--net", f"{NET},num_classes=3", "--class-names", "two.txt")
    code, _, errors = glasshouse_here([*command, *options], capsys)
    assert code == 2 and message in " ".join(errors.split())


def test_evaluate_refuses_what_a_run_has_itself(
    images: Path, capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    run("train", str(images), "--recipe", "small-cnn", "--out", "run", "--set", "train.epochs=1",
        "--set", "data.image_size=12")  # fmt: skip
    for option, file in (("--weights", "own.safetensors"), ("--class-names", "names.txt")):
        code, _, errors = glasshouse_here(["evaluate", "run", option, file], capsys)
        assert code == 2 and f"run has its own {option[2:].replace('-', ' ')}:" in errors


def test_an_answer_that_is_no_number_names_the_file(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Infinite only for bright images: the weights themselves are finite.
    (images.parent / "loud.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        bright = (x.mean((1, 2, 3)) > 0.9).float()\n"
        "        return torch.stack([1 / (1 - bright), 3 * x.mean((1, 2, 3)), bright], 1)\n"
        "def net():\n    return Net()\n"
    )
    Image.new("RGB", (SIDE, SIDE)).save(images / "dark.png")
    Image.new("RGB", (SIDE, SIDE), "white").save(images / "bright.png")
    options = ["--net", "loud.py:net:input_size=12,mean=0,std=1", "--class-names", "names.txt"]
    files = [str(images / name) for name in ("dark.png", "bright.png")]
    code, _, errors = glasshouse_here(["predict", *options, *files], capsys)
    assert code == 2
    assert f"no answer for {files[1]}:" in errors
