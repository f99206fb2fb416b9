"""Phrases that the glossary in CONTRIBUTING.md replaces stay out of what users and readers see."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".pyi", ".toml", ".md", ".html", ".js", ".css", ".ipynb", ".yml"}
FILES = sorted(
    path
    for place in ("src", "docs", "examples", ".github", "README.md", "SECURITY.md", "mkdocs.yml")
    for path in ((ROOT / place).rglob("*") if (ROOT / place).is_dir() else [ROOT / place])
    if path.suffix in KINDS
)
# What to avoid, as a regular expression without regard to case, and what to write.
AVOID = {
    r"(?<!<)(?<!</)\bpictures?\b": "image",
    r"\bso many\b": "this many, or the number itself",
    r"\b(?:go|goes|going|gone|went) on with\b": "resume, continue",
    r"\bat the most\b": "at most",
    r"\bas (?:it|they) stands?\b": "unchanged",
    r"\bbeside\b": "next to, in addition to, compared with",
    r"\bwhat came\b": "what was received",
    r"\bone should care\b": "most serious first",
    r"\blearning by heart\b": "overfitting",
    r"\bfor good\b": "permanently",
    r"\bmend(?:s|ed)?\b": "fix",
    r"\bsaid aloud\b": "stated",
    r"\bsuch as (?:are|is)\b": "those that",
    r"\bthe truth\b": "the true value, the ground truth",
    r"\btelling\b": "informative",
    r"\bto be looked at\b": "look at",
    r"\bevery so\b": "every",
    r"\bin the house\b": "in flight",
    r"\bat the door\b": "before it is accepted",
    r"\b(?:images|steps|requests|samples) a (?:second|class)\b": "per",
    r"\bever more\b": "gradually",
    r"\bcannot tell\b": "cannot detect",
    r"\bheeds?\b": "uses, follows",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_phrase_to_avoid_is_used(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [
        f"line {text.count(chr(10), 0, match.start()) + 1}: '{match.group()}', better: {better}"
        for phrase, better in AVOID.items()
        # A phrase may continue on the next line of a comment or of a notebook's cell.
        for match in re.finditer(phrase.replace(" ", r'\s+(?:#\s+|")?'), text, re.IGNORECASE)
    ]
    assert found == []


def test_percentages_are_written_in_one_place_and_with_a_space() -> None:
    """Python's own format has none: "93.7%" would be next to "93.7 %"."""
    own = re.compile(r"\{[^{}]*:[^{}:]*(?:\{[^{}]*\})?\.?\d*%\}|\{100 \* [^{}]+\} %")
    package = ROOT / "src" / "glasshouse"
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}, better: percentage() of wording.py"
        for path in sorted(package.rglob("*.py"))
        for match in own.finditer(path.read_text(encoding="utf-8"))
        if path != package / "wording.py"
    ]
    assert found == []
