"""Numbers put into words."""


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """A length of time to the second: "42 s", "3:20 min" or "1:02:03 h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02} h"
    return f"{minutes}:{whole % 60:02} min"
