from pathlib import Path

import pytest

from glasshouse.errors import UsageError
from glasshouse.serving.run_lookup import listed_runs, run_folder
from glasshouse.serving.workbench import Workbench
from tests.runs.test_listing import write_run


def test_a_run_is_found_by_its_name_below_the_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "sub" / "one")
    workbench = Workbench(tmp_path / "runs")
    assert run_folder(workbench, "sub/one") == (tmp_path / "runs" / "sub" / "one").resolve()
    assert [run.name for run in listed_runs(workbench)] == ["sub/one"]


@pytest.mark.parametrize(
    "name", ["none", "../outside", "sub/../../outside", "a\0b", "", ".", "loop"]
)
def test_no_name_leads_outside_the_folder(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "outside")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match="no run named"):
        run_folder(Workbench(tmp_path / "runs"), name)
