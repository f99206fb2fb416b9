"""The reliability diagram of a finished run, with one label per image or several."""

from collections.abc import Mapping
from typing import Any

from glasshouse.serving.pages.charts import echart, reliability_options
from glasshouse.serving.pages.parts import panel
from glasshouse.serving.pages.words import percent


def show_reliability(
    found: Mapping[str, Any], *, of: str = "accuracy", over: str = "confidence"
) -> None:
    """The panel of an evaluation; of, over: what the bars are and what they are plotted over."""
    before, after = found["before"], found["after"]
    remark = (
        f"calibration error (ECE) {percent(after['ece'], 1)}, {percent(before['ece'], 1)} before "
        f"temperature scaling (T = {after['temperature']:.2f})"
    )
    with panel("Reliability diagram", remark):
        options = reliability_options(after["bins"], of=of, over=over)
        echart(options, f"{of.capitalize()} over {over}; {remark}", "gh-short")
