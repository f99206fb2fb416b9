"""The layer table of docs/architecture.md, held against the imports."""

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import glasshouse

ROOT = Path(glasshouse.__file__).parent
TABLE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
BASE = set(re.findall(r"^\| base: `([a-z_ ]+)`", TABLE, re.M)[0].split())
MAY_IMPORT = {
    layer: set(re.findall(r"\w+", allowed))
    for layer, allowed in re.findall(r"^\| `([a-z]+)` \| [^|]+ \|([a-z, ]*)\|$", TABLE, re.M)
}
FILES = sorted(path for path in ROOT.rglob("*.py"))
LIGHT = [ROOT / f"{name}.py" for name in sorted(BASE)] + [ROOT / "data" / "images.py"]
FOREIGN_ZOOS = {"torchvision", "timm"}


@functools.cache
def imported(path: Path, *, at_import: bool = False) -> set[str]:
    """Every module that a file imports; at_import leaves out functions and TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return modules_in(tree.body if at_import else ast.walk(tree))


def modules_in(nodes: Iterable[ast.AST]) -> set[str]:
    """What import statements among these nodes name: modules, and each name taken from one."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_table_has_every_layer_once_and_only_names_layers_above() -> None:
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert parts - {"__init__", "__main__"} == BASE | set(MAY_IMPORT)
    above: set[str] = set()
    for layer, allowed in MAY_IMPORT.items():
        assert allowed <= above, layer
        above.add(layer)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT.get(layer, set()) | BASE | {layer}
    own = {name.split(".")[1] for name in imported(path) if name.startswith("glasshouse.")}
    if layer not in ("__init__", "__main__"):
        assert own <= allowed | {"__version__"}


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.name)
def test_base_does_not_wait_for_torch(path: Path) -> None:
    heavy = {"torch", "safetensors.torch", "sklearn", "matplotlib", "PIL"}
    assert not imported(path, at_import=True) & heavy


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_zoos_are_known_to_one_file_only(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(path)} & FOREIGN_ZOOS
    assert not foreign or path == ROOT / "models" / "libraries.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_imports_its_own_modules_inside_functions(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] == "cli":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    local = {name for function in functions for name in modules_in(ast.walk(function))}
    assert {name for name in local if name.split(".")[0] == "glasshouse"} == set()


def test_there_are_no_import_cycles() -> None:
    """Imports in functions and under TYPE_CHECKING count: they hide a cycle and do not end it."""
    modules = {module_of(path): path for path in FILES if path.name != "__init__.py"}
    graph = {module: imported(path) & set(modules) for module, path in modules.items()}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"import cycle: {' -> '.join((*above, module))}"
        if module in done:
            return
        for name in sorted(graph[module]):
            visit(name, (*above, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
