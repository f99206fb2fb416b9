"""What the package imports is what it declares."""

import ast
import functools
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import glasshouse

SOURCE = Path(glasshouse.__file__).parent
PROJECT = SOURCE.parents[1] / "pyproject.toml"
# Imported by name: see `import_module` and `find_spec` in the code.
BY_NAME = {"mlflow", "tensorboard", "pillow_heif", "pyarrow", "optuna", "onnx", "onnxruntime"}


@functools.cache
def imported() -> set[str]:
    """Top-level names of every other package that a module imports, also in a function."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"glasshouse"}


def requirements() -> list[str]:
    """The lines of pyproject.toml, for the package itself and for its extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = project["dependencies"], *project["optional-dependencies"].values()
    return [line for group in groups for line in group]


def normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def test_every_import_is_a_declared_dependency() -> None:
    known = {normal(line.split(">")[0].split("[")[0]) for line in requirements()}
    distributions = packages_distributions()
    missing = {
        name
        for name in imported() - BY_NAME
        if not {normal(each) for each in distributions.get(name, [name])} & known
    }
    assert not missing
    assert len(imported()) > 20


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    others = [line for line in requirements() if not line.startswith("glasshouse[")]
    assert [line for line in others if ">=" not in line or ",<" not in line] == []
