"""Numbers and names put into words."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ByteSize

# A number and its unit, and a comparison of p.
_HELD = re.compile(r"(?<=\d) (?:%|(?:points?|s|min|h|MB|GB)\b)|\bp (?:=|<|&lt;) (?=\d)")
# What a terminal takes for a command: of a name, nothing is lost by it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# The metric by which runs are judged: the latter where an image may have several labels.
ACCURACY, PRECISION = "accuracy", "mean average precision"
# From here on, days are easier to read than hours.
_HOURS_OF_DAYS = 48
# Nobody waits for as many epochs: who asks for them means to stop the training himself.
_NO_END = 1_000_000
# What the accuracy of an epoch is where images may have several labels: a stricter measure.
ALL_LABELS_RIGHT = "images with all labels right"


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as text: "a", "a and b" or "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def first_of(words: Sequence[str], most: int = 8, join: str = ", ") -> str:
    """The first words of a list, and how many more there are: "a, b and 3 more"."""
    if len(words) <= most:
        return join.join(words)
    last = "; and" if join == "; " else " and"
    return f"{join.join(words[:most])}{last} {len(words) - most:,} more"


def epochs_so_far(epoch: int, epochs: int, join: str = "/") -> str:
    """How far a training has come: "3/10", or "3, until stopped" where it has no end in sight."""
    return f"{epoch:,}, until stopped" if has_no_end(epochs) else f"{epoch:,}{join}{epochs:,}"


def has_no_end(epochs: int) -> bool:
    """Whether a training is for more epochs than anybody waits for."""
    return epochs >= _NO_END


def percentage(share: float, digits: int | None = None) -> str:
    """A share in 0..1 as a text: "74 %", "99.8 %", and never "0 %" or "100 %" by rounding.

    digits: as many after the point, whatever the share; for columns, and where these are compared.
    """
    if digits is not None:
        return f"{100 * share:.{digits}f} %"
    if 0 < share < 0.0005:
        return "under 0.1 %"
    if 0.9995 < share < 1:
        return "over 99.9 %"
    is_whole = share in (0, 1) or 0.0195 <= share < 0.9805
    return f"{100 * share:.{0 if is_whole else 1}f} %"


def p_words(p: float) -> str:
    """A p-value as a text: "p = 0.030", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def level(share: float) -> str:
    """A share that somebody chose, with the digits that it was given with: "95 %", "97.5 %"."""
    return f"{100 * share:.4g} %"


def metric_text(metric: str, value: float) -> str:
    """An accuracy in percent; a mean average precision, which is no share, as a number in 0..1."""
    return percentage(value, 2) if metric == ACCURACY else f"{value:.3f}"


def duration(seconds: float) -> str:
    """A length of time: "0.4 s", "42 s", "3:20 min", "1:02:03 h" or "3 days 4 h"."""
    if 0 < seconds < 0.95:
        return f"{max(seconds, 0.1):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if hours >= _HOURS_OF_DAYS:
        return f"{hours // 24} days {hours % 24} h"
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02} h"
    return f"{minutes}:{whole % 60:02} min"


def file_size(count: int) -> str:
    """A number of bytes as a text: "512 B", "26.1 MB", "5.0 GB"."""
    return ByteSize(count).human_readable(decimal=True, separator=" ")


def shown_path(path: str) -> str:
    """An absolute path from the current folder where it is below that, and anything else as is."""
    here, whole = Path.cwd(), Path(path)
    return str(whole.relative_to(here)) if here in whole.parents else path


def abbreviated(text: str, most: int = 40) -> str:
    """A name of at most this many characters: of a longer one, both ends.

    Names of layers and files differ at the end at least as often as at the start.
    """
    if len(text) <= most:
        return text
    start = (most - 1) // 2
    return f"{text[:start]}…{text[len(text) - (most - 1 - start) :]}"


def start_of_name(name: str, most: int = 120) -> str:
    """As much of a name as that of a file may begin with, so that more can follow; most: bytes."""
    start = name[:most]
    while len(start.encode("utf-8", "surrogatepass")) > most:
        start = start[:-1]
    return start


def unbroken(text: str) -> str:
    """A text or page in which no line ends within "65 %", "3.2 points" or "p < 0.001"."""
    return _HELD.sub(lambda found: found[0].replace(" ", "\u00a0"), text)


def name_parts(name: str) -> list[str]:
    """A name or path cut after its separators, where a line may break: "runs/", "my_", "photos"."""
    return re.split(r"(?<=[/\\_.=,-])(?<!\d[.,-])(?=[^/\\_.=,\s-])", name)


def readable_name(name: str) -> str:
    """The name of a file or folder as text that any page, plot or file can hold.

    Bytes that are not UTF-8 become escapes such as ``\\xe9``, and so do the ends of lines and other
    characters that control a terminal.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
