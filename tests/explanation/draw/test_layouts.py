"""Every text, image, bar and line of each drawing, against what is kept of them in layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glasshouse.errors import UsageError
from glasshouse.explanation.draw.canvas import Canvas, shorten, text_width, to_html
from glasshouse.explanation.draw.display import html_of, png_of
from glasshouse.explanation.draw.mosaic import channel_grid, crossed_out, gap_between, mosaic
from glasshouse.explanation.draw.overlay import ColourScale, coloured, overlaid
from glasshouse.explanation.draw.photo_and_map import draw_photo_and_map
from glasshouse.explanation.draw.rows import draw_explanation, draw_mistakes
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.strip import draw_strip
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.methods import METHODS
from glasshouse.explanation.nouns import Activations, Check, Explanation, ExplanationPage, Mistakes
from glasshouse.explanation.trust.hiding import ELSEWHERE, HIDING
from glasshouse.models.conformity import SetRule
from tests.explanation.nets import NAMES
from tests.kept import require_kept

KEPT = Path(__file__).parent / "layouts"


def number(value: float) -> str:
    return f"{round(float(value), 2):g}"


def place(point: tuple[float, float]) -> str:
    return f"({number(point[0])}, {number(point[1])})"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is drawn, a line per call of the canvas."""
    found: list[str] = []

    def noting(name: str, describe: Callable[..., str]) -> None:
        original = getattr(Canvas, name)

        def noted(self: Canvas, *given: Any, **options: Any) -> None:
            found.append(describe(*given, **options))
            original(self, *given, **options)

        monkeypatch.setattr(Canvas, name, noted)

    def text(
        point: Any, words: str, size: int = 11, colour: str = "#222222", anchor: str = "la"
    ) -> str:
        return f"{place(point)} {words!r} {size} {colour} {anchor}"

    noting("__init__", lambda width, height: f"canvas {number(width)} x {number(height)}")
    noting("write", text)
    noting("write_over", lambda point, words: f"{place(point)} over {words!r}")
    noting("paste", lambda point, pixels, side: f"{place(point)} image {pixels.shape} to {side}, "
           f"mean {pixels.mean():.0f}")  # fmt: skip
    noting("fill", lambda point, size, colour: f"{place(point)} fill {place(size)} {colour}")
    noting("line", lambda start, end, colour, width=1: f"{place(start)} to {place(end)} {colour} "
           f"{width}")  # fmt: skip
    noting("colour_bar", lambda point, scale, height: f"{place(point)} bar {number(scale.low)} to "
           f"{number(scale.high)} {scale.colours}, {height}")  # fmt: skip
    return found


def keep(name: str, lines: list[str], drawn: Image.Image) -> None:
    said = "\n".join([*lines, f"{drawn.width} x {drawn.height} in the end"])
    require_kept(KEPT / f"{name}.txt", f"{said}\n")


def explained(method: str, count: int = 1, **other: Any) -> Explanation:
    """A map that grows from left to right, of a class of its own in each image."""
    layered = METHODS[method].source == "layer"
    ramp = np.linspace(0, 1, 8 if layered else 12) ** (1 + len(method) % 3)
    maps = np.broadcast_to(ramp, (count, 6, len(ramp))) * np.arange(1, count + 1)[:, None, None]
    images = np.full((count, 3, 9, 12), 40, dtype=np.uint8)
    images[:, 0, :, 6:] = 200
    logits = np.log([[0.1, 0.5, 0.2, 0.15, 0.05]] * count)
    given = {
        "maps": maps, "images": images, "logits": logits, "targets": np.arange(count) % 5,
        "class_names": NAMES, "layer": "stage.3" if layered else None, **other,
    }  # fmt: skip
    return Explanation(method, **given)


CHECKS = (
    Check(HIDING, (0.5,), "good", "Hiding the marked area makes it dog (from 10 % to 3 %)."),
    Check(ELSEWHERE, (0.5,), "note", "An equal area elsewhere changes little: 10 % to 9 %."),
    Check("random head", (0.9,), "doubtful", "It hardly changes with a random last layer (0.9)."),
    Check("edges", (0.1,), "good", "It is more than edges."),
    Check("faithfulness", (0.0,), "note", "Cannot be judged: the class is improbable."),
    Check("sameness", (1.0,), "note", "Same: as another."),
)  # fmt: skip


LONG = " ".join(f"Word {number} of a long note that is wrapped." for number in range(7))


def whole_page(**other: Any) -> ExplanationPage:
    """Nine maps, of which two are the same, with checks, notes and warnings."""
    first = explained("grad-cam", checks=CHECKS, notes=("Layer: the last one.",))
    maps = (
        first,
        replace(first, method="hires-cam", checks=()),
        explained("saliency", checks=(CHECKS[3],), warnings=("Beware of this.", LONG)),
        explained("smoothgrad", checks=(CHECKS[4], CHECKS[3])),
        explained("occlusion", checks=CHECKS[2:4], notes=("By the way.",)),
        explained("guided", warnings=("Beware of this.",)),
        explained("relu", against=np.array([1])),
        explained("layer-cam", layer="stage.1.a_rather_long_name_of_a_layer"),
        explained("eigen-cam"),
    )
    rule = SetRule(0.9, "lac", class_conditional=False, limits=(0.6,) * 5, count=9, source="val")
    given = {"names": ("photos/holiday.png",), "model": "my-network", "set_rule": rule,
             "class_names": NAMES, **other}  # fmt: skip
    return ExplanationPage(first.images, first.logits, explanations=maps, **given)


def test_a_whole_sheet(lines: list[str]) -> None:
    keep("sheet", lines, draw_sheet(whole_page()))


def test_long_sentences_of_checks_are_wrapped_where_the_map_ends(lines: list[str]) -> None:
    checks = (*CHECKS[:1], Check("edges", (0.1,), "good", LONG), CHECKS[2])
    first = explained("saliency", checks=checks)
    keep("sheet-long-checks", lines, draw_sheet(replace(whole_page(), explanations=(first,))))


def test_a_sheet_of_labels_in_two_columns(lines: list[str]) -> None:
    page = whole_page(thresholds=(0.05, 0.2, 0.9, 0.05, 0.9), set_rule=None, temperature=2.0)
    keep("sheet-labels", lines, draw_sheet(page, palette="jet", columns=2))


def test_a_sheet_about_a_class_of_a_long_name(lines: list[str]) -> None:
    names = ("Staffordshire bull terrier, Staffordshire bullterrier, also a long name", *NAMES[1:])
    page = whole_page(class_names=names)
    maps = tuple(replace(each, class_names=names) for each in page.explanations[2:5])
    keep("sheet-long-names", lines, draw_sheet(replace(page, explanations=maps)))


def test_a_sheet_without_maps_and_one_of_pixels(lines: list[str]) -> None:
    page = whole_page()
    draw_sheet(replace(page, explanations=()))
    pixels = explained("saliency", maps=np.linspace(-1, 1, 108).reshape(1, 9, 12))
    keep("sheet-pixels", lines, draw_sheet(replace(page, explanations=(pixels,))))


def test_images_in_rows(lines: list[str]) -> None:
    draw_explanation(explained("grad-cam"))
    draw_explanation(explained("saliency", 3), most=2)
    three = [explained(name, 2) for name in ("grad-cam", "layer-cam", "saliency")]
    shares = np.array([0.876, 0.5])
    ids = np.array(["photos/a/very/long/path/to/an/image/of/a/cat.png", "b.png"])
    drawn = draw_mistakes(Mistakes("cat taken for dog", ids, shares, *three))
    keep("rows", lines, drawn)


def test_a_strip_of_epochs(lines: list[str]) -> None:
    snapshots = [(f"epoch {k}", explained("grad-cam", 3)) for k in (1, 2, 3, 4)]
    draw_strip(snapshots, columns=3, most=2)
    draw_strip(snapshots[:1], thresholds=(0.5,) * 5)
    empty = replace(snapshots[0][1], maps=np.zeros((3, 6, 8)))
    keep("strip", lines, draw_strip([("a title that is too long for it", empty)]))


def test_a_photo_and_a_map(lines: list[str]) -> None:
    draw_photo_and_map(whole_page(), 2)
    tall = explained("grad-cam", images=np.zeros((1, 3, 20, 10), dtype=np.uint8))
    page = ExplanationPage(tall.images, tall.logits, NAMES, (tall,))
    keep("photo-and-map", lines, draw_photo_and_map(page, 0))


def test_channels_as_tiles(lines: list[str]) -> None:
    values = np.arange(10.0 * 4 * 6).reshape(1, 10, 4, 6)
    values[0, 3] = 5.0
    layer = Activations("stage.2", np.concatenate([values, values + 1]))
    draw_activations(layer)
    draw_activations(layer, 1, columns=3, most=7, shared_scale=True, palette="viridis")
    draw_activations(Activations("head", values.reshape(1, -1)[:, :70]))
    draw_activations(Activations("wide", np.zeros((1, 2, 300, 200))))
    draw_channel(layer, 9, 1)
    keep("tiles", lines, draw_channel(layer, 3))
    for wrong in (-1, 10):
        with pytest.raises(UsageError, match="has 0 to 9"):
            draw_channel(layer, wrong)


def test_a_rectangle_and_a_line_cover_their_pixels_and_no_others() -> None:
    canvas = Canvas(9.2, 7.0)
    assert canvas.image.size == (10, 7)
    canvas.fill((2, 1), (3, 4), "#000000")
    canvas.fill((7, 0), (0.9, 4), "#000000")
    canvas.fill((8, 6), (1, 1), "#000000")
    dark = np.asarray(canvas.image)[..., 0] == 0
    assert dark[1:5, 2:5].all() and dark[6, 8] and dark.sum() == 13
    canvas = Canvas(6, 6)
    canvas.line((1, 1), (4, 1), "#000000")
    canvas.line((0, 4), (5, 4), "#000000", 2)
    dark = np.asarray(canvas.image)[..., 0] == 0
    assert dark[1, 1:5].all() and dark.sum() == 4 + 12


@pytest.mark.parametrize(
    ("shape", "side", "size"),
    [((2, 4), 12, (12, 6)), ((4, 2), 12, (6, 12)), ((5, 5), 5, (5, 5)), ((10, 20), 5, (5, 2))],
)
def test_the_longer_side_of_an_image_has_the_length_that_was_asked_for(
    shape: tuple[int, int], side: int, size: tuple[int, int]
) -> None:
    canvas = Canvas(30, 30)
    canvas.paste((1.4, 2.6), np.zeros((*shape, 3), dtype=np.uint8), side)
    dark = np.asarray(canvas.image)[..., 0] < 128
    assert (dark.any(0).sum(), dark.any(1).sum()) == size and dark[3, 1] and not dark[2].any()


@pytest.mark.parametrize(("factor", "is_blurred"), [(1, False), (2, True), (3, False), (0.5, True)])
def test_pixels_stay_pixels_where_they_are_enlarged_much(factor: float, is_blurred: bool) -> None:
    chess = (np.indices((8, 8)).sum(0) % 3 == 0).astype(np.uint8)[..., None].repeat(3, 2) * 255
    canvas = Canvas(24, 24)
    canvas.paste((0, 0), chess, round(8 * factor))
    side = round(8 * factor)
    found = np.unique(np.asarray(canvas.image)[:side, :side])
    assert (len(found) > 2) == is_blurred


def test_text_of_two_fonts_keeps_its_anchor() -> None:
    words = "Grad 猫 map"
    for anchor, left in (("la", 0.0), ("ma", 0.5), ("ra", 1.0)):
        canvas = Canvas(400, 40)
        canvas.write((200, 5), words, 20, "#000000", anchor)
        dark = np.flatnonzero((np.asarray(canvas.image)[..., 0] < 128).any(0))
        width = text_width(words, 20)
        assert dark[0] == pytest.approx(200 - left * width, abs=4)
        assert dark[-1] == pytest.approx(200 + (1 - left) * width, abs=4)


@pytest.mark.parametrize("words", ["Grad", "猫"])
def test_text_lies_where_its_anchor_says(words: str) -> None:
    rows = {}
    for anchor in ("la", "lm", "ls"):
        canvas = Canvas(80, 80)
        canvas.write((10, 40), words, 20, "#000000", anchor)
        rows[anchor] = np.flatnonzero((np.asarray(canvas.image)[..., 0] < 128).any(1))
    assert rows["la"][0] >= 40 and rows["lm"][0] < 40 < rows["lm"][-1]
    assert rows["ls"][-1] <= 45 and rows["la"].size == rows["ls"].size


def test_a_text_is_cut_no_more_than_it_must_be() -> None:
    words = "a name of a file"
    width = text_width(words, 11)
    assert shorten(words, width) == words
    cut = shorten(words, width - 0.1)
    assert cut.endswith("…") and text_width(cut, 11) <= width - 0.1
    longer = words[: len(cut)] + "…"
    assert text_width(longer, 11) > width - 0.1
    assert shorten(words, 0) == "…" and shorten(words, 0, keep_end=True) == "…"


def test_sentences_are_shown_below_the_image_as_text() -> None:
    assert to_html(b"x", ["a < b"]) == (
        '<img src="data:image/png;base64,eA==" alt="explanation"><p>a &lt; b</p>'
    )
    said = html_of(explained("grad-cam", checks=CHECKS[:1], warnings=("First.",)))
    assert said.index("First.") < said.index("Hiding the marked area")
    with pytest.raises(TypeError, match="expected an explanation"):
        png_of(3)


def test_a_cross_in_grey_runs_through_a_dead_channel() -> None:
    pictures = []
    for height, width in ((9, 9), (12, 20), (90, 60)):
        drawn = crossed_out(height, width)
        assert drawn.shape == (height, width, 3) and (drawn == drawn[..., :1]).all()
        assert (drawn == drawn[::-1]).all() and (drawn == drawn[:, ::-1]).all()
        marks = {120: "#", 224: "."}
        pictures += ["".join(marks[value] for value in row) for row in drawn[..., 0].tolist()]
    require_kept(KEPT / "cross.txt", "\n".join(pictures) + "\n")


def test_channels_of_one_value_are_dead_unless_they_are_one_value() -> None:
    values = np.zeros((1, 3, 2, 2))
    values[0, 1] = 4.0
    values[0, 2, 0, 0] = 1.0
    assert channel_grid(Activations("a", values)).dead.tolist() == [True, True, False]
    flat = np.array([[0.0, 4.0, -1.0]])
    grid = channel_grid(Activations("a", flat))
    assert grid.dead.tolist() == [True, False, False]
    assert grid.scale.tolist() == [[0, 0], [4, 4], [-1, -1]]
    shared = channel_grid(Activations("a", flat), shared_scale=True)
    assert shared.tiles.ravel()[:3].tolist() == [0.2, 1.0, 0.0]
    assert shared.scale.tolist() == [[-1, 4]] * 3
    with pytest.raises(UsageError, match="expected channels"):
        channel_grid(Activations("a", np.zeros((1, 2, 3))))


@pytest.mark.parametrize(("side", "factor", "gap"), [(4, 1, 1), (24, 2, 2), (36, 1, 2), (60, 1, 2)])
def test_the_gap_is_a_twentyfourth_of_a_tile(side: int, factor: int, gap: int) -> None:
    grid = channel_grid(Activations("a", np.random.default_rng(0).random((1, 3, side, 3))))
    assert gap_between(grid, factor) == gap
    pixels = mosaic(grid, factor)
    assert pixels.shape == (2 * side * factor + gap, 2 * 3 * factor + gap, 4)
    assert (pixels[side * factor : side * factor + gap, :, 3] == 0).all()
    assert pixels[: side * factor, : 3 * factor, 3].min() == 255


def test_colours_by_the_numbers() -> None:
    scale = ColourScale(1.0, 3.0, "viridis")
    first, middle, last = coloured(np.array([[1.0, 2.0, 3.0]]), scale)[0].tolist()
    assert (first, last) == ([68, 1, 84], [253, 231, 37]) and middle == [33, 145, 140]
    assert coloured(np.array([[-9.0, 99.0]]), scale)[0].tolist() == [first, last]
    white = np.full((1, 2, 3), 255, dtype=np.uint8)
    # A quarter of the strength has half of the opacity.
    drawn = overlaid(white, np.array([[0.0, 0.75]]), ColourScale(0.0, 3.0, "viridis"))[0]
    weak = coloured(np.array([[0.75]]), ColourScale(0.0, 3.0, "viridis"))[0, 0]
    assert drawn[0].tolist() == [255] * 3
    assert np.abs(drawn[1] - (0.425 * weak + 0.575 * 255)).max() <= 1


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.123, "0.12"), (99.4, "99"), (99.5, "100"), (99.7, "100"), (1234.5, "1,234")],
)
def test_values_beside_a_bar_of_colours_are_never_powers_of_ten(
    lines: list[str], value: float, words: str
) -> None:
    Canvas(80, 80).colour_bar((0, 0), ColourScale(-value, value, "inferno"), 60)
    said = [line.split("'")[1] for line in lines if line.endswith(" lm")]
    assert said == [words, "0", f"-{words}"]
