"""Words for people, made from numbers."""


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
