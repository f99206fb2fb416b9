import shutil
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image, ImageChops, features

from glasshouse.data.images import ImageSet
from glasshouse.errors import GlasshouseWarning
from glasshouse.explanation.draw import fonts
from glasshouse.explanation.draw.canvas import Canvas, shorten, text_width, wrap
from glasshouse.explanation.draw.fonts import OWN_FONT, drawable, families, font_of, pieces
from glasshouse.report.encoding import figure_png
from glasshouse.report.image_plots import plot_images

CAT, DOG, ROCKET = "猫", "कुत्ता", "🚀"
ARABIC, HEBREW = "قطة", "חתול"


def make_font(path: Path, characters: str, *, empty: str = "") -> Path:
    """A font in which every character is a triangle, or for those of empty nothing at all."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    pen.lineTo((1000, 0))
    pen.lineTo((500, 1000))
    pen.closePath()
    triangle, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    order = [".notdef", *(f"u{ord(c):05X}" for c in characters + empty)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(order)
    builder.setupCharacterMap({ord(c): f"u{ord(c):05X}" for c in characters + empty})
    is_empty = {f"u{ord(c):05X}" for c in empty}
    builder.setupGlyf({name: nothing if name in is_empty else triangle for name in order})
    builder.setupHorizontalMetrics(dict.fromkeys(order, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Else matplotlib looks for the fonts of an earlier test, whose folder is gone.
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist])

    def forget() -> None:
        fonts._told.clear()
        for each in (fonts.font_of, fonts.pieces, fonts._characters, fonts._has_shape):
            each.cache_clear()

    forget()
    yield
    forget()


def install(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    monkeypatch.setattr(fonts, "installed_fonts", lambda: paths)


def written(text: str, size: int = 20) -> Image.Image:
    canvas = Canvas(400, 40)
    canvas.write((5, 5), text, size)
    return canvas.image


def test_latin_and_what_our_own_font_has_is_drawn_by_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fonts, "installed_fonts", lambda: pytest.fail("fonts were searched"))
    for text in ("cat", "naïve Łódź → ½", "Ελληνικά", "кошка"):
        assert drawable(text) == text
        assert pieces(text) == ((text, OWN_FONT),)
    assert families(["cat", "Łódź"]) == families([])


def test_a_font_of_the_machine_draws_what_our_own_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = make_font(tmp_path / "triangles.ttf", CAT + "犬")
    install(monkeypatch, other)
    assert drawable(f"cat {CAT}") == f"cat {CAT}"
    assert pieces(f"cat {CAT} or 犬") == (
        ("cat ", OWN_FONT), (CAT, other), (" or ", OWN_FONT), ("犬", other),
    )  # fmt: skip
    assert families([f"cat {CAT}"])[-1] == "triangles"
    image = np.asarray(written(CAT).convert("L"))
    # A triangle of 20 by 20 pixels covers half of its square.
    assert (image < 128).sum() == pytest.approx(200, abs=30)
    assert text_width(CAT, 20) == 20


def test_without_a_font_an_escape_is_shown_and_the_user_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch)
    with pytest.warns(
        GlasshouseWarning, match=r"no installed font can draw \\u732b .*install a font"
    ):
        assert drawable(f"a {CAT}") == r"a \u732b"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawable("犬") == r"\u72ac"
        assert ImageChops.difference(written(CAT), written(r"\u732b")).getbbox() is None


def test_a_glyph_without_an_outline_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(
        monkeypatch,
        make_font(tmp_path / "colour.ttf", "", empty=CAT),
        make_font(tmp_path / "outlines.ttf", CAT),
    )
    assert font_of(CAT) == tmp_path / "outlines.ttf"


def test_an_emoji_that_only_a_coloured_font_has_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Noto Color Emoji has empty outlines, or bitmaps of a size of their own."""
    install(monkeypatch, make_font(tmp_path / "colour.ttf", "", empty="🦊🚀\u200d"))
    with pytest.warns(GlasshouseWarning, match=r"U0001f98a \(fox face\).*not Noto Color Emoji"):
        assert drawable("a 🦊") == "a [fox face]"
    assert drawable("🚀\u200d🚀\ufe0f") == "[rocket][rocket]"
    assert drawable("\U0001f1e9\U0001f1ea") == "DE"
    # The usual name, in place of Unicode's "emoji modifier fitzpatrick type-4".
    assert drawable("\U0001f98a\U0001f3fd!") == "[fox face, medium skin tone]!"
    assert drawable("\U0001f3fb") == "[light skin tone]"
    assert drawable("no. 1\ufe0f\u20e3, #\u20e3") == "no. [keycap 1], [keycap #]"
    # Both ends of a long name: many differ at the end only.
    assert drawable("\U0001f92d") == "[smiling face wi…d covering mouth]"
    assert drawable("\U0001f970") == "[smiling face wi…and three hearts]"
    assert ImageChops.difference(written("🦊"), written("[fox face]")).getbbox() is None


def test_damaged_fonts_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font at all")
    install(monkeypatch, damaged, tmp_path / "missing.ttf")
    assert font_of(CAT) is None


def test_joiners_and_variation_selectors_become_no_escape(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, make_font(tmp_path / "space.ttf", ROCKET))
    assert drawable(f"{ROCKET}\ufe0f") == ROCKET
    assert drawable(f"{ROCKET}\u200d{ROCKET}") == ROCKET * 2
    assert drawable("a\tb\nc") == "a\tb\nc" and drawable("é\x07") == "é"


def test_a_name_of_a_file_that_is_no_text_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.warns(GlasshouseWarning):
        assert drawable("caf\udce9.png") == r"caf\udce9.png"
    written("caf\udce9.png")


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no raqm here")
@pytest.mark.parametrize("text", [f"{ARABIC} و", f"{HEBREW} ו"])
def test_text_from_right_to_left_is_in_order(text: str) -> None:
    """A word of several letters, and one of a single letter, which belongs to its left."""
    columns = np.flatnonzero((np.asarray(written(text, 30).convert("L")) < 128).any(0))
    gap = int(np.diff(columns).argmax())
    left, right = columns[gap] - columns[0], columns[-1] - columns[gap + 1]
    assert left < right / 2


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no raqm here")
def test_arabic_letters_are_joined() -> None:
    joined = "ﻗﻄﺔ"
    assert unicodedata.normalize("NFKC", joined) == ARABIC
    shaped = text_width(ARABIC, 40)
    apart = sum(text_width(each, 40) for each in ARABIC)
    assert shaped < apart - 1


def test_without_a_library_that_orders_it_an_escape_is_shown() -> None:
    with pytest.warns(GlasshouseWarning, match="runs from right to left or joins its letters"):
        assert drawable(f"{HEBREW[0]} cat", can_shape=False) == r"\u05d7 cat"


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no raqm here")
def test_an_escape_among_letters_from_right_to_left_keeps_its_backslash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch)
    with pytest.warns(GlasshouseWarning):
        assert drawable(f"{ARABIC} {CAT}") == f"{ARABIC} \u200e\\u732b"


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow has no raqm here")
def test_a_sentence_keeps_its_order_around_names_that_run_from_right_to_left() -> None:
    mark = "\u200e"
    for name in (ARABIC, HEBREW):
        assert drawable(f"answer: {name} 94 %") == f"{mark}answer: {name}{mark} 94 %"
        assert drawable(f"{name} (explained)") == f"{mark}{name} (explained)"
        # A name alone, with a number of its own, runs as its script does.
        assert drawable(f"{name} 3") == f"{name} 3"


def test_shortened_and_wrapped_text_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, make_font(tmp_path / "triangles.ttf", CAT))
    assert shorten(CAT * 10, 100, 20) == f"{CAT * 4}…"
    assert wrap(f"{CAT * 2} {CAT * 2} {CAT}", 90, 20) == [f"{CAT * 2} {CAT * 2}", CAT]


# Which libraries shape such text depends on their versions.
@pytest.mark.filterwarnings("ignore:text that runs from right to left")
def test_plots_of_any_names_draw_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The suite turns warnings into errors, and matplotlib warns of missing glyphs."""
    install(monkeypatch, make_font(tmp_path / "triangles.ttf", CAT))
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    names = [CAT, "cat", ARABIC, f"{CAT} cat"]
    images = ImageSet.from_arrays(pixels, range(4), names)
    png = figure_png(plot_images(images), dpi=50)
    assert png.startswith(b"\x89PNG")
    install(monkeypatch)
    for each in (fonts.font_of, fonts.pieces):
        each.cache_clear()
    with pytest.warns(GlasshouseWarning, match="no installed font can draw"):
        figure = plot_images(images)
    figure_png(figure, dpi=50)


def test_installed_fonts_are_regular_ones_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("Any-Bold.ttf", "Any-Regular.ttf", "AnySerif-Italic.ttf", "LastResort.ttf"):
        shutil.copy(OWN_FONT, tmp_path / name)
    paths = [str(path) for path in tmp_path.iterdir()]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: paths)
    fonts.installed_fonts.cache_clear()
    found = [path.name for path in fonts.installed_fonts()]
    fonts.installed_fonts.cache_clear()
    assert found == ["Any-Regular.ttf", "Any-Bold.ttf", "AnySerif-Italic.ttf"]


@pytest.mark.parametrize(
    ("first", "last"),
    [(0x0590, 0x109F), (0x1780, 0x18AF), (0xA980, 0xABFF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFF),
     (0x10800, 0x11FFF)],
)  # fmt: skip
def test_letters_of_the_blocks_whose_scripts_are_shaped_are_known(first: int, last: int) -> None:
    assert fonts.needs_shaping(f"a{chr(first)}") and fonts.needs_shaping(f"{chr(last)}b")
    assert not fonts.needs_shaping(f"a{chr(first - 1)}{chr(last + 1)}")
