"""What users and scripts rely on: public names, a fast command line, shipped data."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import glasshouse
from glasshouse.models.presets import preset_names
from glasshouse.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", glasshouse.__all__)
def test_every_public_name_exists_and_says_what_it_is(name: str) -> None:
    value = getattr(glasshouse, name)
    assert value.__doc__
    assert import_module(value.__module__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"no attribute tarin\. Did you mean 'train'"):
        getattr(glasshouse, "tarin")  # noqa: B009
    with pytest.raises(AttributeError, match=r"no attribute qqq$"):
        getattr(glasshouse, "qqq")  # noqa: B009
    assert not hasattr(glasshouse, "__wrapped__")


def own_types(hint: object) -> set[type]:
    """The classes of this package in an annotation, however deep."""
    own = isinstance(hint, type) and hint.__module__.startswith("glasshouse.")
    found = {hint} if isinstance(hint, type) and own else set()
    return found.union(*(own_types(each) for each in get_args(hint)))


@pytest.mark.parametrize("name", glasshouse.__all__)
def test_what_a_public_function_takes_and_returns_is_public(name: str) -> None:
    value = getattr(glasshouse, name)
    if not isinstance(value, type):
        used = set().union(*(own_types(hint) for hint in get_type_hints(value).values()))
        # check_all can reuse a recording that explain's own pipeline has made; users leave it out.
        assert {each.__name__ for each in used} - {"Recording"} <= set(glasshouse.__all__)


def test_the_package_ships_its_types_and_imports_nothing_by_itself() -> None:
    folder = Path(glasshouse.__file__).parent
    assert (folder / "py.typed").is_file()
    stub = (folder / "__init__.pyi").read_text(encoding="ascii")
    assert all(f"{name} as {name}" in stub for name in glasshouse.__all__)
    code = "import sys, glasshouse; print([m for m in sys.modules if m.startswith('glasshouse.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["runs", "."]])
def test_help_and_lists_do_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['glasshouse', *{arguments!r}]\n"
        "from glasshouse.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = {'torch', 'sklearn', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


def test_the_workbench_comes_up_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, glasshouse.serving.app\n"
        "print('heavy:', sorted({'torch', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


def test_every_recipe_names_a_net_that_exists() -> None:
    for name in recipe_names():
        model = load_recipe(name).model
        assert model.preset in preset_names() or model.pretrained is not None
