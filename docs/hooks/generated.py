"""Generate the parts of the documentation that repeat the code when the site is built.

A line `<!-- made from the code: NAME -->` in a page is replaced by what `MAKERS[NAME]` yields, and
a list of public names in a comment by their reference.
"""

import ast
import json
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import latex2mathml.converter
import typer
from keras_steps import PAGE, TIMES, read_steps
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import glasshouse
from glasshouse import settings
from glasshouse.cli.main import app
from glasshouse.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "tutorial.ipynb"
IMAGES = ROOT / "docs" / "images"
PAGES_WITH_FORMULAS = ("explanations.md",)
_FORMULA = re.compile(r"\$([^$]+)\$")
_FIGURE = re.compile(r"^!\[([^\]]+)\]\((images/[^)]+)\)$", re.MULTILINE)
_PLURALS = {
    "integer": "integers",
    "number": "numbers",
    "string": "strings",
    "a table": "tables",
    "a table with `type`": "tables with `type`",
}
_NAMES = re.compile(r"^<!-- names:\n(.*?)\n-->$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^<!-- made from the code: ([a-z-]+) -->$", re.MULTILINE)

SECTIONS: dict[str, type[settings.Settings]] = {
    "data": settings.DataSettings,
    "augment": settings.AugmentSettings,
    "model": settings.ModelSettings,
    "model.pretrained": settings.PretrainedSettings,
    "train": settings.TrainSettings,
    "transfer": settings.TransferSettings,
}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Replace the marks of a page by generated text; MkDocs calls this for each page."""
    made = _MARK.sub(lambda found: "\n".join(MAKERS[found.group(1)]()), markdown)
    made = _NAMES.sub(_reference, made)
    # A click opens an image alone, in its full size.
    made = _FIGURE.sub(r"[![\1](\2)](\2)", made)
    return _FORMULA.sub(_formula, made) if page.file.src_uri in PAGES_WITH_FORMULAS else made


def _formula(found: re.Match[str]) -> str:
    """MathML, which browsers render without a script from another host."""
    drawn = latex2mathml.converter.convert(" ".join(found.group(1).split()))
    # At the start of a line, Markdown would turn a bare formula into a paragraph of its own.
    return f"<span>{drawn}</span>"


def named_recipes() -> Iterator[str]:
    """A row per recipe: its name and its description."""
    yield "| recipe | description |\n|--|--|"
    for name in recipe_names():
        yield f"| `{name}` | {load_recipe(name).description} |"


def recipe_keys() -> Iterator[str]:
    """A table per section of a recipe."""
    for section, model in SECTIONS.items():
        yield f"\n### `[{section}]` {{ #{section.replace('.', '-')} }}\n\n{_words(model)}\n"
        yield from _key_table(model)


def layer_keys() -> Iterator[str]:
    """A table per kind of layer."""
    for model in get_args(get_args(settings.Layer)[0]):
        yield from _variant(model)


def schedule_keys() -> Iterator[str]:
    """A table per schedule."""
    for model in get_args(get_args(settings.Schedule)[0]):
        yield from _variant(model)


def commands() -> Iterator[str]:
    """Every command with its arguments and options, from the command line itself."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield f"\n## `{name}`\n\n{(command.help or '').strip()}\n"
        pieces = [_metavar(p) for p in command.params if p.param_type_name == "argument"]
        yield f"```\nglasshouse {' '.join([name, *pieces, '[OPTIONS]'])}\n```\n"
        yield "| argument or option | description | default |\n|--|--|--|"
        yield from (_parameter(p) for p in command.params if p.name != "help")


def _reference(found: re.Match[str]) -> str:
    """The reference of the public names that a page lists: a table, then each by itself."""
    names = found.group(1).split()
    rows = [f"| [`{name}`](#{_path_of(name)}) | {_cell(_first_line(name))} |" for name in names]
    entries = [f"::: {_path_of(name)}" for name in names]
    return "\n\n".join(["\n".join(["| name | purpose |\n|--|--|", *rows]), *entries])


def _path_of(name: str) -> str:
    """Where a public name is defined; its import path and its anchor."""
    return f"glasshouse.{_modules()[name]}.{name}"


@cache
def _modules() -> dict[str, str]:
    stub = ast.parse(Path(glasshouse.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def _first_line(name: str) -> str:
    words = (getattr(glasshouse, name).__doc__ or "").partition("\n\n")[0]
    return " ".join(words.replace("``", "`").split())


def files() -> Iterator[str]:
    """A table per package: each file with the first paragraph of its docstring."""
    package = Path(glasshouse.__file__).parent
    for folder in sorted({path.parent for path in package.rglob("*.py")}):
        modules = {path: _docstring(path) for path in sorted(folder.glob("*.py"))}
        if any(modules.values()):
            yield f"\n### {folder.relative_to(package.parent)}\n\n| file | purpose |\n|--|--|"
        for path, words in modules.items():
            if words:
                first = " ".join(words.partition("\n\n")[0].replace("``", "`").split())
                yield f"| `{path.name}` | {_cell(first)} |"


def _docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def tutorial() -> Iterator[str]:
    """The notebook as a page: its text, its code, and the outputs that docs/figures.py stored."""
    texts = json.loads((IMAGES / "tutorial.json").read_text(encoding="utf-8"))
    for place, cell in enumerate(json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]):
        # The notebook is in another folder than the pages that it links to.
        text, name = "".join(cell["source"]).replace("](../docs/", "]("), cell["id"]
        yield text + "\n" if cell["cell_type"] == "markdown" else f"```python\n{text}\n```\n"
        if name in texts:
            yield f"```{{ .text .output }}\n{_wrapped(texts[name])}\n```\n"
        if (IMAGES / f"tutorial-{name}.webp").is_file():
            yield f"![Output of the code above](images/tutorial-{name}.webp)\n"
        elif "data-images" in cell["metadata"].get("tags", []):
            yield "*This cell shows images of CIFAR-10, which may not be published here.*\n"
        if place == 0:
            yield f"The outputs on this page are of {texts['budget']}, so your own will differ.\n"


def _wrapped(text: str) -> str:
    """An output with its long lines cut between words, as a terminal would; columns stay."""
    cut = [textwrap.wrap(line, 86, subsequent_indent="  ") for line in text.rstrip().splitlines()]
    return "\n".join(line for pieces in cut for line in pieces or [""])


def keras_steps() -> Iterator[str]:
    """A row per step of the Keras tutorial: its successor, and the seconds that it takes."""
    seconds = json.loads(TIMES.read_text(encoding="utf-8")) if TIMES.is_file() else {}
    yield "| step | Glasshouse | seconds |\n|--|--|--:|"
    for step in read_steps(PAGE.read_text(encoding="utf-8")):
        anchor = f"{step.number}-{step.title.lower().replace(' ', '-')}"
        found = seconds.get(str(step.number))
        shown = "" if found is None else "< 0.1" if found < 0.1 else f"{found:.{found < 10:d}f}"
        yield f"| {step.number}. [{step.title}](#{anchor}) | `{step.short}` | {shown} |"


MAKERS: dict[str, Callable[[], Iterator[str]]] = {
    "named-recipes": named_recipes,
    "recipe-keys": recipe_keys,
    "layer-keys": layer_keys,
    "schedule-keys": schedule_keys,
    "commands": commands,
    "files": files,
    "tutorial": tutorial,
    "keras-steps": keras_steps,
}


def _variant(model: type[settings.Settings]) -> Iterator[str]:
    kinds = " or ".join(f"`{kind}`" for kind in get_args(model.model_fields["type"].annotation))
    yield f"\n**{kinds}**: {_words(model)}\n"
    if set(model.model_fields) - {"type"}:
        yield from _key_table(model)


def _key_table(model: type[settings.Settings]) -> Iterator[str]:
    yield "| key | values | default | description |\n|--|--|--|--|"
    for name, field in model.model_fields.items():
        if name != "type":
            words = [text for text in (field.description or "", _bounds(field)) if text]
            values, default = _values(field.annotation), _default(field)
            yield f"| `{name}` | {values} | {default} | {_cell('; '.join(words))} |"


def _values(kind: Any) -> str:
    """A type in words: the values and alternatives, without Python's notation."""
    if kind is types.NoneType:
        return "unset"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _values(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        if all(isinstance(p, type) and issubclass(p, settings.Settings) for p in parts):
            return "a table with `type`"
        return " or ".join(dict.fromkeys(_values(part) for part in parts))
    if origin is tuple:
        many = _PLURALS.get(inner := _values(parts[0]), inner)
        return f"a list of {many}" if Ellipsis in parts else f"{len(parts)} {many}"
    if isinstance(kind, type) and issubclass(kind, settings.Settings):
        return "a table"
    return {int: "integer", float: "number", str: "string", bool: "true, false"}.get(
        kind, "a table"
    )


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    known = [
        f"{sign} {getattr(each, key)}"
        for each in field.metadata
        for key, sign in signs.items()
        if getattr(each, key, None) is not None
    ]
    return ", ".join(known)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "**required**"
    if isinstance(field.default, settings.Settings):
        return f"`{getattr(field.default, 'type', '...')}`"
    if field.default is None or field.default == {}:
        return "unset"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{value}`"


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"| `{_metavar(parameter)}` | {_cell(parameter.help or '')} | |"
    metavar = f" {parameter.metavar}" if parameter.metavar else ""
    names = ", ".join(f"`{name}{metavar}`" for name in (*parameter.opts, *parameter.secondary_opts))
    has_default = parameter.default not in (None, False, True, ()) and not callable(
        parameter.default
    )
    default = f"default `{getattr(parameter.default, 'value', parameter.default)}`"
    return f"| {names} | {_cell(parameter.help or '')} | {default if has_default else ''} |"


def _metavar(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    name += "..." * (parameter.nargs == -1)
    return name if parameter.required else f"[{name}]"


def _words(model: type[settings.Settings]) -> str:
    return " ".join((model.__doc__ or "").replace("``", "`").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[", "\\[").replace("<", "&lt;")
