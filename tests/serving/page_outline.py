"""A page as text: every element with its words, classes, properties, style and events."""

import json
import re
from pathlib import Path
from typing import Any

from nicegui.element import Element

from glasshouse.wording import name_parts

# The properties that our pages set; NiceGUI's own change with its version.
_KEPT = {
    "accept", "alt", "auto-upload", "batch", "clearable", "color", "counter", "data-cell",
    "data-label", "data-live", "data-record", "data-trying", "dense", "disable", "error", "flat",
    "height", "href", "icon", "label", "loading", "max", "max-file-size", "max-files",
    "max-total-size", "maxlength", "min", "model-value", "multiple", "muted", "name", "no-caps",
    "open", "options", "options-dense", "outlined", "pagination", "placeholder", "playsinline",
    "role", "rows", "columns", "scope", "selection", "size", "snap", "src", "step", "tabindex",
    "target", "title", "type", "unelevated", "value", "width",
}  # fmt: skip
# The same for events.
_EVENTS = {"click", "keydown.enter", "failed"}


def outline_of(element: Element, folder: Path) -> str:
    """One line per element, each below the one that holds it; folder: named <folder>."""
    lines = "\n".join(_lines(element, 0))
    for words in (str(folder), "|".join(name_parts(str(folder)))):
        lines = lines.replace(words, "<folder>")
    return re.sub(r"target=#c\d+", "target=…", lines) + "\n"


def _lines(element: Element, depth: int) -> list[str]:
    if element.tag == "nicegui-timer":
        return []
    props = {
        key: value
        for key, value in element.props.items()
        if (key in _KEPT or key.startswith("aria-")) and value is not None and value is not False
    }
    words = [element.tag, *(f".{name}" for name in element.classes)]
    children = [child for slot in element.slots.values() for child in slot.children]
    is_broken = any(child.tag == "wbr" for child in children)
    said = "|".join(_text(c) for c in children if c.tag != "wbr") if is_broken else _text(element)
    style = "; ".join(f"{key}: {value}" for key, value in element.style.items())
    events = sorted({each.type for each in element._event_listeners.values()} & _EVENTS)
    parts = [
        "".join(words),
        json.dumps(said, ensure_ascii=False) if said else "",
        *(f"{key}={_short(props[key])}" for key in sorted(props)),
        f"style={style}" if style else "",
        f"on {' '.join(events)}" if events else "",
    ]
    found = [" " * depth + " ".join(part for part in parts if part)]
    for name, slot in element.slots.items():
        if slot.template is not None:
            found.append(f"{' ' * depth} #{name} {json.dumps(slot.template)}")
        for child in [] if is_broken else slot.children:
            found += _lines(child, depth + 1)
    return found


def _text(element: Element) -> str:
    return str(getattr(element, "text", ""))


def _short(value: Any) -> str:
    if isinstance(value, str):
        return "data:…" if value.startswith("data:") else value if value else '""'
    return "yes" if value is True else json.dumps(value, ensure_ascii=False, default=str)
