"""Test pictures of a run, plain or with what speaks for an answer."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from glasshouse.serving.pages.parts import box, link, picture, text


def plain_picture(name: str, position: int, caption: tuple[str, str]) -> None:
    """A picture that leads to its explanation, with two lines under it."""
    first, second = caption
    with link("", explain_address(name, position), "gh-picture"):
        picture(f"/picture/{position}/{quote(name)}", second, "gh-pixels")
        text(first, "span")
        text(second, "span", "gh-quiet gh-id").props["title"] = second


def mapped_picture(name: str, position: int, mistake: Mapping[str, Any]) -> None:
    """A mistake: the picture, and what speaks for the given and for the true class."""
    with link("", explain_address(name, position), "gh-mistake"):
        with box("gh-trio"):
            address = f"/picture/{position}/{quote(name)}"
            picture(address, str(mistake["id"]), "gh-pixels")
            for of in ("predicted", "true"):
                with box("gh-layers"):
                    picture(address, "", "gh-pixels")
                    what = f"what speaks for {mistake[of]}"
                    picture(f"/map/{position}/{quote(name)}?of={of}", what, "gh-heat")
        with box("gh-caption"):
            text(str(mistake["predicted"]), "span", "gh-wrong")
            text(f"{mistake['probability']:.0%}", "span", "gh-quiet")
            text("is", "span", "gh-quiet")
            text(str(mistake["true"]), "span", "gh-right")
            text(f"{mistake['probability_of_true']:.0%}", "span", "gh-quiet")
        text(str(mistake["id"]), "span", "gh-quiet gh-id").props["title"] = str(mistake["id"])


def explain_address(name: str, position: int) -> str:
    """The page that explains one test picture of a run."""
    return f"/explain?{urlencode({'run': name, 'picture': position})}"
