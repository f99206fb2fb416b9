"""Which font draws which characters: names of classes and files may be in any script.

The font that matplotlib brings comes first, so that what it can draw has the same bytes on every
machine. For other scripts the fonts of the machine are searched. What none of them can draw becomes
its name if it is an emoji, such as [cat face] or [keycap 1], else an escape such as \\u732b, and
the user is told once. The glyphs of coloured emoji fonts are bitmaps or layers, which neither
library draws.
"""

import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib import ft2font
from PIL import features

from glasshouse.errors import GlasshouseWarning
from glasshouse.wording import abbreviated

OWN_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
# Fonts that have a glyph for everything, which says nothing.
_PLACEHOLDERS = ("lastresort", "blank", "tofu")
# Of several fonts with a glyph, a regular one without serifs is closest to our own.
_UNLIKE = (
    "bold", "black", "italic", "oblique", "light", "thin", "condensed", "mono", "serif", "display",
)  # fmt: skip
# Scripts whose letters join or change places, from Hebrew to Arabic and from Devanagari to Khmer.
_SHAPED = ((0x0590, 0x109F), (0x1780, 0x18AF),
           (0xA980, 0xABFF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFF), (0x10800, 0x11FFF))  # fmt: skip
_LONGEST_NAME = 32
_FLAG_A, _FLAG_Z = "\U0001f1e6", "\U0001f1ff"
_KEYCAP = "\u20e3"
# Their names in Unicode are those of a scale of skin, which nobody knows; these are the usual ones.
_SKIN_TONES = dict(zip("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff",
                       ("light", "medium-light", "medium", "medium-dark", "dark"),
                       strict=True))  # fmt: skip
_LEFT_TO_RIGHT = "\u200e"
_NUMBER_NEXT = re.compile(r"\s*[(:,]*\s*\d")
_told: set[str] = set()


def drawable(text: str, *, can_shape: bool | None = None) -> str:
    """The text, with a name or an escape for each character that cannot be drawn here.

    can_shape: whether the caller's library puts right-to-left text in order and joins letters;
    unset: whether Pillow does. A GlasshouseWarning tells of the first escapes, once per process.
    """
    if text.isascii():
        return text
    is_able = features.check("raqm") if can_shape is None else can_shape
    written = []
    # Without a letter of known direction before it, the backslash would change sides.
    mark = _LEFT_TO_RIGHT if needs_shaping(text) and is_able else ""
    for character in text:
        if character.isspace():
            written.append(character)
        elif is_invisible(character):
            # Only a library that joins letters knows that these are no glyphs of their own.
            written.extend(character if mark else "")
        elif needs_shaping(character) and not is_able:
            _tell_once("order", "text that runs from right to left or joins its letters")
            written.append(_escaped(character))
        elif font_of(character) is None:
            _tell_once("font", f"{_escaped(character)} ({_name(character)})")
            _append_stand_in(written, character, mark)
        else:
            written.append(character)
    line = "".join(written)
    is_sentence = any(each.isascii() and each.isalpha() for each in text)
    return _in_own_order(line) if mark and is_sentence else line


def can_matplotlib_shape() -> bool:
    """Whether matplotlib puts right-to-left text in order: it does since 3.11, by libraqm."""
    return hasattr(ft2font, "__libraqm_version__")


def is_shaped(part: str) -> bool:
    """Whether a part of one font has to be laid out by a library that knows its script."""
    return needs_shaping(part) or any(map(is_invisible, part))


def needs_shaping(text: str) -> bool:
    """Whether some of the characters run from right to left, or join or change places."""
    return any(low <= ord(each) <= high for each in text for low, high in _SHAPED)


@lru_cache(maxsize=4096)
def pieces(text: str) -> tuple[tuple[str, Path], ...]:
    """The text in parts of one font each, from left to right.

    text: what `drawable` returned. A word is in one font if there is one that draws all of it, as
    its letters belong together; so is a text in which some letters run from right to left.
    """
    whole = _one_font(text) if needs_shaping(text) or _is_own(text) else None
    if whole is not None:
        return ((text, whole),)
    found: list[tuple[str, Path]] = []
    for word in _words(text):
        font = _font_of_space(word, found) if word.isspace() else _one_font(word)
        parts = [(word, font)] if font else [(c, font_of(c) or OWN_FONT) for c in word]
        for part, path in parts:
            if found and found[-1][1] == path:
                found[-1] = (found[-1][0] + part, path)
            else:
                found.append((part, path))
    # Within a part the drawing library puts letters in order; the parts follow the first letter.
    return tuple(found[::-1] if _runs_leftwards(text) else found)


def families(texts: Iterable[str]) -> list[str]:
    """The font families that matplotlib needs for these texts, its own first."""
    needed: dict[Path, None] = {}
    for text in texts:
        for _, path in () if text.isascii() else pieces(text):
            needed[path] = None
    needed.pop(OWN_FONT, None)
    return [*matplotlib.rcParams["font.family"], *(_family(path) for path in needed)]


@cache
def font_of(character: str) -> Path | None:
    """The first font that draws a character; None where there is none."""
    return next((path for path in _candidates() if _draws(path, character)), None)


def is_invisible(character: str) -> bool:
    """Whether a character draws nothing by itself: controls, joiners and variation selectors."""
    is_control = unicodedata.category(character) in ("Cc", "Cf") and not character.isspace()
    return is_control or "\ufe00" <= character <= "\ufe0f"


@cache
def installed_fonts() -> tuple[Path, ...]:
    """The font files of this machine, those most like our own first."""
    # Imported here: it reads a list of all fonts, which plain text does without.
    from matplotlib.font_manager import findSystemFonts

    paths = {Path(path) for path in findSystemFonts()}
    usable = [p for p in paths if not any(word in p.stem.lower() for word in _PLACEHOLDERS)]
    return tuple(sorted(usable, key=_unlikeness))


def _unlikeness(path: Path) -> tuple[int, str, str]:
    stem = path.stem.lower()
    return sum(word in stem for word in _UNLIKE), stem, str(path)


def _candidates() -> Iterator[Path]:
    yield OWN_FONT
    # Only asked for where our own font is not enough: searching takes a moment.
    yield from installed_fonts()


def _one_font(text: str) -> Path | None:
    visible = [each for each in text if not is_invisible(each)]
    return next((p for p in _candidates() if all(_draws(p, c) for c in visible)), None)


def _font_of_space(space: str, before: list[tuple[str, Path]]) -> Path:
    """That of the word before it, unless it would draw a box."""
    font = before[-1][1] if before else OWN_FONT
    return font if all(_draws(font, each) for each in space) else OWN_FONT


def _is_own(text: str) -> bool:
    return all(is_invisible(c) or _draws(OWN_FONT, c) for c in text)


def _draws(path: Path, character: str) -> bool:
    return ord(character) in _characters(path) and _has_shape(path, character)


@cache
def _characters(path: Path) -> frozenset[int]:
    """The characters that a font has glyphs for; none for one that cannot be read or scaled."""
    try:
        font = ft2font.FT2Font(str(path))
        # Fonts of coloured bitmaps have one size, which matplotlib cannot draw.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    # A damaged font of the machine is no reason to draw nothing.
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _has_shape(path: Path, character: str) -> bool:
    """Whether a glyph has an outline: those of coloured fonts may be empty."""
    if character.isspace() or is_invisible(character):
        return True
    try:
        font = ft2font.FT2Font(str(path))
        font.set_size(12, 72)
        left, bottom, right, top = font.load_char(ord(character)).bbox
    except (OSError, RuntimeError, ValueError):
        return False
    return bool(right > left and top > bottom)


@cache
def _family(path: Path) -> str:
    """The name of a font, by which matplotlib then finds it."""
    from matplotlib.font_manager import fontManager

    # Its own list was made when it first ran, and may be older than the font.
    fontManager.addfont(str(path))
    return str(ft2font.FT2Font(str(path)).family_name)


def _in_own_order(text: str) -> str:
    """The text, with marks that keep a sentence of ours in order around names that run leftwards.

    Without them, a sentence that begins with such a name would run leftwards as a whole, and a
    number after one would change sides, without its percent sign.
    """
    is_leftward = [unicodedata.bidirectional(each) in ("R", "AL") for each in text]
    if not any(is_leftward):
        return text
    written = [_LEFT_TO_RIGHT]
    for place, character in enumerate(text):
        written.append(character)
        if is_leftward[place] and _NUMBER_NEXT.match(text, place + 1):
            written.append(_LEFT_TO_RIGHT)
    return "".join(written)


def _words(text: str) -> list[str]:
    """Words, and the space between them."""
    return ["".join(group) for _, group in groupby(text, str.isspace)]


def _runs_leftwards(text: str) -> bool:
    """Whether the first letter with a direction runs from right to left."""
    kinds = (unicodedata.bidirectional(each) for each in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def _append_stand_in(written: list[str], character: str, mark: str) -> None:
    """Add the name of a character, or an escape; some emoji change the one before them."""
    before = written[-1] if written else ""
    if character == _KEYCAP and before:
        written[-1] = f"{mark}[keycap {before}]"
    elif character in _SKIN_TONES and before.endswith("]"):
        written[-1] = f"{before[:-1]}, {_SKIN_TONES[character]} skin tone]"
    else:
        written.append(mark + _stand_in(character))


def _stand_in(character: str) -> str:
    """The name of a symbol, of a long one both ends; an escape for a letter.

    The names of letters that no font here has would say no more than their numbers. A flag is two
    symbols, which stand for the letters of its country.
    """
    if _FLAG_A <= character <= _FLAG_Z:
        return chr(ord("A") + ord(character) - ord(_FLAG_A))
    if character in _SKIN_TONES:
        return f"[{_SKIN_TONES[character]} skin tone]"
    is_symbol = unicodedata.category(character) in ("So", "Sk")
    return f"[{abbreviated(_name(character), _LONGEST_NAME)}]" if is_symbol else _escaped(character)


def _name(character: str) -> str:
    return unicodedata.name(character, "a character without a name").lower()


def _tell_once(reason: str, what: str) -> None:
    if reason in _told:
        return
    _told.add(reason)
    advice = {
        "font": f"no installed font can draw {what}: it and others like it are shown by name or as "
        "escapes in images and plots; install a font with outlines for them, such as Noto Sans of "
        "that script, or for emoji Noto Emoji (not Noto Color Emoji)",
        "order": f"{what} cannot be drawn with the installed libraries: it is shown as escapes in "
        "images and plots; Pillow needs libraqm and FriBiDi, and matplotlib 3.11",
    }
    warnings.warn(advice[reason], GlasshouseWarning, stacklevel=4)
