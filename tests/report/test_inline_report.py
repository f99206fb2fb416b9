import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import glasshouse as gh
from glasshouse.errors import UsageError


class Frame(HTMLParser):
    """The attributes of the only frame of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "iframe" and not self.found
        self.found = dict(attrs)


def test_the_frame_holds_the_whole_report(tmp_path: Path) -> None:
    text = '<!doctype html>\n<p title="a \'b\' & c">&lt;ü "</p></iframe><script>1 < 2</script>'
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    for given in (tmp_path, str(tmp_path), tmp_path / "report.html"):
        frame = Frame()
        frame.feed(gh.show(given)._repr_html_())
        assert frame.found["srcdoc"] == text
        # Not as the notebook itself.
        assert "allow-same-origin" not in str(frame.found["sandbox"])


def test_what_has_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a", encoding="utf-8")
    for given in (tmp_path, tmp_path / "none", tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match="finished run"):
            gh.show(given)


def test_who_shows_something_else_is_told_of_every_plot() -> None:
    with pytest.raises(UsageError) as refused:
        gh.show(())  # type: ignore[arg-type]
    named = set(re.findall(r"plot_\w+", str(refused.value)))
    assert named == {name for name in gh.__all__ if name.startswith("plot_")}
