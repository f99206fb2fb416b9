"""The images of the documentation: every one is shown, drawn by the scripts, and small."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = sorted((ROOT / "docs").glob("*.md"))


def test_every_image_is_shown_and_every_image_shown_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = set(re.findall(r"\(images/([\w-]+\.webp)\)", text))
    there = {path.name for path in IMAGES.glob("*.webp")}
    # The page of the tutorial is made from the notebook, with one image per cell that draws.
    cells = {name for name in there if name.startswith("tutorial-")}
    assert shown - cells == there - cells
    assert shown <= there


def test_every_image_has_a_description() -> None:
    for page in PAGES:
        for words in re.findall(r"!\[([^\]]*)\]\(", page.read_text(encoding="utf-8")):
            assert len(words.split()) >= 2, page.name


def test_the_images_are_small() -> None:
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < 3_000_000


def test_only_their_scripts_put_images_there() -> None:
    assert {path.suffix for path in IMAGES.iterdir()} <= {".webp", ".json"}
    scripts = (ROOT / "docs").glob("*figures.py")
    script = "\n".join(path.read_text(encoding="utf-8") for path in scripts)
    names = {path.stem for path in IMAGES.glob("*.webp")}
    assert [name for name in names if name.split("-")[0] not in script] == []
