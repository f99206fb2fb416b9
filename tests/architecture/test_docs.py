"""The site is built without warnings, loads nothing from another host and leaves nothing out."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import glasshouse
from glasshouse import settings
from glasshouse.cli.main import app
from glasshouse.explanation.methods import ALL_METHODS
from glasshouse.recipe import recipe_names
from tests.architecture.site import build_site

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


def text_of(site: Path, page: str) -> str:
    """A page, without the marks of where a name may break."""
    return re.sub("<wbr>|<span class=.?whole.?>(.*?)</span>", r"\1", raw_text(site, page))


def raw_text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_can_be_found_from_the_menu(site: Path) -> None:
    menu = text_of(site, "index.html")
    assert [name for name in PAGES if name.replace(".md", ".html") not in menu] == []


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=[\"']?([^\"' >]+)"
    )
    for page in site.glob("*.html"):
        for address in loading.findall(text_of(site, page.name)):
            assert not address.startswith(("http:", "https:", "//")), (page.name, address)
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", styles)


def test_every_key_recipe_command_method_and_public_name_is_described(site: Path) -> None:
    recipes = text_of(site, "recipes.html")
    models = (settings.DataSettings, settings.AugmentSettings, settings.ModelSettings,
              settings.PretrainedSettings, settings.TrainSettings, settings.TransferSettings,
              settings.Conv, settings.Triangular)  # fmt: skip
    keys = {key for model in models for key in model.model_fields} - {"type"}
    assert [key for key in keys if f"<code>{key}</code>" not in recipes] == []
    assert [name for name in recipe_names() if f"<code>{name}</code>" not in recipes] == []
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    page = text_of(site, "commands.html")
    assert [name for name in commands if f"glasshouse {name}" not in page] == []
    explanations = text_of(site, "explanations.html")
    assert [name for name in ALL_METHODS if f"<code>{name}</code>" not in explanations] == []
    reference = text_of(site, "api.html")
    assert [name for name in glasshouse.__all__ if f".{name}" not in reference] == []


def test_every_public_name_is_listed_under_one_topic() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = " ".join(re.findall(r"^<!-- names:\n(.*?)\n-->$", text, re.MULTILINE | re.DOTALL))
    assert sorted(listed.split()) == sorted(glasshouse.__all__)


def test_no_mark_is_left_unfilled(site: Path) -> None:
    for page in site.glob("*.html"):
        for mark in ("<!-- made from", "<!-- names"):
            assert mark not in text_of(site, page.name)
    assert "images/tutorial-cell-29.webp" in text_of(site, "tutorial.html")
    assert "visualize_saliency" in text_of(site, "keras.html")


def test_files_named_by_the_architecture_exist_and_all_are_listed(site: Path) -> None:
    package = Path(glasshouse.__file__).parent
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+\.pyi?)`", text))
    roots = (package, ROOT)
    assert len(named) > 20
    assert [name for name in named if not any((root / name).exists() for root in roots)] == []
    page = text_of(site, "architecture.html")
    modules = [path for path in package.rglob("*.py") if path.stat().st_size]
    assert [path for path in modules if f"<code>{path.name}</code>" not in page] == []


def test_names_in_code_may_break_after_their_separators_and_only_outside_of_blocks() -> None:
    hook = load_module(ROOT / "docs" / "hooks" / "line_breaks.py")
    pages = {
        "<code>model.safetensors</code>": "<code>model.<wbr>safetensors</code>",
        "<code>data.on_finding</code>": "<code>data.<wbr>on_<wbr>finding</code>",
        "<code>a &amp; b ... 0.5</code>": "<code>a &amp; b ... 0.<wbr>5</code>",
        "<code>--top-k K</code>": '<code><span class="whole">--top</span>-k K</code>',
        "<pre><code>a/a.b --lr</code></pre>": (
            '<pre><code>a/a.b <span class="whole">--lr</span></code></pre>'
        ),
        "runs/a.b": "runs/a.b",
    }
    assert {page: hook.on_post_page(page) for page in pages} == pages


def test_wide_tables_name_their_columns_in_each_cell_and_narrow_ones_do_not() -> None:
    hook = load_module(ROOT / "docs" / "hooks" / "narrow_tables.py")
    row = "<tr><td>{}</td><td>b</td><td>c &lt; d</td></tr>"
    head = "<thead><tr><th>key</th><th>a &amp; b</th><th>what</th></tr></thead>"
    narrow = f"<table>{head}<tbody>{row.format('name')}</tbody></table>"
    assert hook.on_post_page(narrow) == narrow
    wide = hook.on_post_page(f"<table>{head}<tbody>{row.format('w' * 41)}</tbody></table>")
    assert wide.startswith('<table data-columns="3"><thead><tr><th>key</th>')
    assert '<td data-label="a &amp; b">b</td><td data-label="what">c &lt; d</td>' in wide
