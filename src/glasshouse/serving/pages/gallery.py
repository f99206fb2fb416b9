"""Test images of a run, plain or with explanation maps."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from glasshouse.serving.pages.parts import box, image, link, text
from glasshouse.wording import percentage


def plain_image(name: str, position: int, identity: str, caption: str) -> None:
    """An image with caption and id, as a link to its explanation."""
    with link("", explain_address(name, identity), "gh-image"):
        image(f"/image/{position}/{quote(name)}", identity, "gh-pixels")
        text(caption, "span")
        text(identity, "span", "gh-quiet gh-id").props["title"] = identity


def mapped_image(name: str, position: int, mistake: Mapping[str, Any]) -> None:
    """A misclassified image with the maps of its predicted and its true class."""
    with link("", explain_address(name, str(mistake["id"])), "gh-mistake"):
        with box("gh-trio"):
            address = f"/image/{position}/{quote(name)}"
            image(address, str(mistake["id"]), "gh-pixels")
            for of in ("predicted", "true"):
                with box("gh-layers"):
                    image(address, "", "gh-pixels")
                    what = f"explanation map for {mistake[of]}"
                    image(f"/map/{position}/{quote(name)}?of={of}", what, "gh-heat")
        with box("gh-caption"):
            text("predicted", "span", "gh-quiet")
            text(str(mistake["predicted"]), "span", "gh-wrong")
            text(percentage(mistake["probability"], 0), "span", "gh-quiet")
            text("· true", "span", "gh-quiet")
            text(str(mistake["true"]), "span", "gh-right")
            text(percentage(mistake["probability_of_true"], 0), "span", "gh-quiet")
        text(str(mistake["id"]), "span", "gh-quiet gh-id").props["title"] = str(mistake["id"])


def explain_address(name: str, identity: str = "") -> str:
    """The page that explains a run's predictions, optionally of one test image by its id."""
    chosen = {"model": name, **({"image": identity} if identity else {})}
    return f"/explain?{urlencode(chosen)}"
