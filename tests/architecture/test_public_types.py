"""Both type checkers know every public name, accept typical use and reject misspelt names.

mypy and basedpyright (pyright with Node.js in its wheel, so that nothing is fetched when it runs)
read the same pages: the code of README, documentation and tutorial, a page of typical use, and one
of mistakes, which shows that the checkers would notice.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import glasshouse

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".mypy_cache" / "public"
TYPICAL = "typical_use.py"
GOOD = ("readme.py", "docs.py", "notebook.py", TYPICAL)
# One mistake on each line that ends in "# wrong".
MISTAKES = """
import glasshouse as gh
from glasshouse import lod_splits  # wrong

splits = gh.load_splits("digits", gh.DataSetings())  # wrong
recipe = gh.load_recipe("small-cnn")
print(recipe.trian)  # wrong
classifier, epochs = gh.train_clasifier(recipe.model, splits, recipe.train)  # wrong
gh.explain(gh.classifier_by_name("cifar10-small"), splits.test.pixels, metods=["relu"])  # wrong
gh.read_images(["cat.jpg"], "cifar10-small")  # wrong
"""
PYRIGHT = {"typeCheckingMode": "standard", "reportUnusedExpression": "none"}
# The libraries that benches compare with may be absent.
NAMES_ONLY = {
    "typeCheckingMode": "off",
    "reportAttributeAccessIssue": "error",
    "reportCallIssue": "error",
}
UNKNOWN = {"Any", "object", "Unknown", "builtins.object"}

Messages = dict[str, list[tuple[int, str, str]]]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    names = "\n".join(f"reveal_type(gh.{name})" for name in glasshouse.__all__)
    texts = {
        "readme.py": "\n".join(python_blocks(ROOT / "README.md")),
        "docs.py": "\n".join(
            block for page in sorted((ROOT / "docs").glob("*.md")) for block in python_blocks(page)
        ),
        "notebook.py": notebook_code(ROOT / "examples" / "tutorial.ipynb"),
        TYPICAL: Path(__file__).with_name(TYPICAL).read_text(encoding="utf-8"),
        "mistakes.py": MISTAKES,
        "names.py": f"import glasshouse as gh\n{names}\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), encoding="utf-8")
    return folder


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def notebook_code(path: Path) -> str:
    """All code cells one after another, without IPython's own lines."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for c in cells if c["cell_type"] == "code" for line in [*c["source"], "\n"]]
    return "".join(line for line in lines if not line.startswith(("%", "!")))


@pytest.fixture(scope="module")
def by_mypy(pages: Path) -> Messages:
    # Without the repository's own settings and plugins, as users run it.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={CACHE}",
         "--python-executable", sys.executable, "--output=json", "."],
        cwd=pages, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: Messages = defaultdict(list)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            each = json.loads(line)
            found[Path(each["file"]).name].append((each["line"], each["severity"], each["message"]))
    return found


def run_pyright(folder: Path) -> list[dict[str, Any]]:
    """What basedpyright reports on a folder with a pyrightconfig.json."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("basedpyright is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    reported: list[dict[str, Any]] = json.loads(done.stdout)["generalDiagnostics"]
    return reported


@pytest.fixture(scope="module")
def by_pyright(pages: Path) -> Messages:
    found: Messages = defaultdict(list)
    for each in run_pyright(pages):
        line = each["range"]["start"]["line"] + 1
        found[Path(each["file"]).name].append((line, each["severity"], each["message"]))
    return found


@pytest.fixture(scope="module", params=["by_mypy", "by_pyright"])
def messages(request: pytest.FixtureRequest) -> Messages:
    found: Messages = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("page", GOOD)
def test_what_users_write_is_accepted(messages: Messages, page: str) -> None:
    assert [each for each in messages[page] if each[1] == "error"] == []


def test_there_is_code_to_check(pages: Path) -> None:
    assert all("import glasshouse as gh" in (pages / name).read_text() for name in GOOD)


def test_every_mistake_is_an_error_and_nothing_else(messages: Messages) -> None:
    wrong = {n for n, line in enumerate(MISTAKES.splitlines(), 1) if line.endswith("# wrong")}
    assert {line for line, severity, _ in messages["mistakes.py"] if severity == "error"} == wrong


def test_every_public_name_has_a_type(messages: Messages) -> None:
    types = {
        line: re.findall(r'"((?:[^"]|"(?! is))*)"', text)[-1]
        for line, severity, text in messages["names.py"]
        if severity in ("note", "information")
    }
    assert len(types) == len(glasshouse.__all__)
    untyped = {
        glasshouse.__all__[line - 2]: kind for line, kind in types.items() if kind in UNKNOWN
    }
    assert untyped == {}


@pytest.mark.slow
def test_the_benches_use_names_that_exist(tmp_path: Path) -> None:
    """They run by hand and rarely, so that nothing else would notice a name that has changed."""
    for script in (ROOT / "bench").glob("*.py"):
        shutil.copy(script, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(NAMES_ONLY), encoding="utf-8")
    assert run_pyright(tmp_path) == []
