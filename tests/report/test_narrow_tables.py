import pytest

from glasshouse.report.html import _value, render_template
from glasshouse.report.narrow_tables import Columns, name_cells

HEAD = "<thead><tr><th>key</th><th>a &amp; b</th><th>what</th></tr></thead>"


def test_cells_of_a_wide_table_name_their_columns() -> None:
    table = f"<table>{HEAD}<tr><td>k</td><td>1</td><td></td></tr></table>"
    assert name_cells(table, lambda columns: False) == table
    seen: list[object] = []

    def is_wide(columns: Columns) -> bool:
        seen.append(columns)
        return True

    named = name_cells(table, is_wide)
    assert seen == [[("key", "k"), ("a & b", "1"), ("what", "")]]
    assert named.startswith('<table data-columns="3"><thead><tr><th>key</th>')
    assert named.endswith(
        '<td data-label="key">k</td><td data-label="a &amp; b">1</td><td></td></tr></table>'
    )


def test_prose_needs_no_name_and_two_columns_no_card() -> None:
    prose = f"<table>{HEAD}<tr><td>k</td><td>{'w ' * 40}</td><td>1</td></tr></table>"
    assert name_cells(prose, lambda columns: True).count("data-label") == 2
    two = "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>"
    assert name_cells(two, lambda columns: True) == two


def test_names_in_titles_break_between_their_parts_and_are_escaped() -> None:
    values = dict.fromkeys(("verdict", "split_counts", "classes", "bad_files", "findings"), "")
    page = render_template("data.html.jinja", {**values, "source": "my_photos/<b>"})
    assert "<h1>my_<wbr>photos/<wbr>&lt;b&gt;</h1>" in page


@pytest.mark.parametrize(
    ("number", "text"),
    [(1848.4, "1,848"), (4298.0, "4,298"), (999.94, "999.9"), (1.486e-4, "0.0001486"),
     (12, "12"), (2000, "2,000"), (-1234.5, "-1,234"), (None, "–"), ("cpu", "cpu")],
)  # fmt: skip
def test_numbers_of_a_column_have_separators_alike(number: object, text: str) -> None:
    assert _value(number) == text
