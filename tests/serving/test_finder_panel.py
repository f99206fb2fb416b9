"""How the page Train shows a range test."""

import asyncio
import sys
from typing import Any

import pytest

from glasshouse.serving.pages.finder_panel import _follow, finder_options, recommended_rate

CURVE: dict[str, Any] = {
    "lrs": [1e-5, 1e-3, 1e-1],
    "losses": [[4.0, 2.0, 900.0]],
    "smoothed": [[4.0, 2.0, None]],
    "suggestion": 1e-3,
    "auto_lr": 4e-3,
    "suggestions": {"minimum/10": 1e-3, "steepest": 5e-4},
    "verdict": "use 0.001",
}


@pytest.mark.parametrize(("auto_lr", "marked"), [(4e-3, 4e-3), (None, 1e-3)])
def test_the_chart_marks_the_suggested_rate(auto_lr: float | None, marked: float) -> None:
    options = finder_options({**CURVE, "auto_lr": auto_lr})
    assert options["yAxis"]["name"] == "loss, nats"
    upright = options["series"][-1]
    foot, top = upright["data"]
    assert (foot[0], top["value"][0]) == (marked, marked)
    # Within what is shown: ECharts leaves out what lies beyond the axis.
    assert options["yAxis"]["min"] <= foot[1] < top["value"][1] <= options["yAxis"]["max"]
    assert float(top["label"]["formatter"]) == marked
    assert all("markLine" not in series for series in options["series"])


def test_a_chart_without_a_rate_has_no_mark() -> None:
    options = finder_options({**CURVE, "auto_lr": None, "suggestion": None})
    assert [series["name"] for series in options["series"]] == ["seed 0", "seed 0, per step"]


@pytest.mark.parametrize(
    ("auto_lr", "suggestion", "recommended"),
    [(4e-3, 1e-3, 4e-3), (None, 1e-3, 1e-3), (None, None, None)],
)
def test_one_rate_is_recommended(
    auto_lr: float | None, suggestion: float | None, recommended: float | None
) -> None:
    curve = {**CURVE, "auto_lr": auto_lr, "suggestion": suggestion}
    assert recommended_rate(curve) == recommended


def test_the_output_of_a_process_is_passed_on_line_by_line() -> None:
    async def story() -> tuple[str, list[str]]:
        program = "import sys; print('first', file=sys.stderr); print('second', file=sys.stderr)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE
        )
        told: list[str] = []
        said = await _follow(process.stderr, told.append)
        await process.wait()
        return said, told

    assert asyncio.run(story()) == ("first\nsecond\n", ["first", "second"])
