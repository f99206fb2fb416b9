"""The tutorial runs from its first cell to its last, on a small budget and without a network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tutorial.ipynb"
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(codes) > 15
    assert all(not cell.outputs and cell.execution_count is None for cell in codes)


def test_it_uses_public_names_only() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert re.findall(r"^.*import.*glasshouse.*$", code, re.MULTILINE) == [
        "import glasshouse as gh"
    ]
    assert "from glasshouse" not in code
    modules = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert modules == {"os", "tempfile", "warnings", "pathlib", "glasshouse"}


def test_it_links_to_pages_that_exist() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert "../docs/glossary.md" in links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    budget = {"GLASSHOUSE_EPOCHS": "2", "GLASSHOUSE_IMAGES": "600", "OMP_NUM_THREADS": "1"}
    environment = {k: v for k, v in os.environ.items() if k != "GLASSHOUSE_DATA"} | budget
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), str(tmp_path / "run.ipynb")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(tmp_path / "run.ipynb", as_version=4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) >= 12
    assert any("backbone: cifar10-small" in output.get("text", "") for output in outputs)
