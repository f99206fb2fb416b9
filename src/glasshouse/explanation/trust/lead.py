"""Which of several maps to begin with."""

from collections.abc import Sequence

from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import CLASSLESS
from glasshouse.explanation.nouns import Check, Explanation
from glasshouse.explanation.trust.hiding import HIDING
from glasshouse.wording import pluralize

# Maps of regions come first, because a person can see what they mark; those that hardly depend on
# the class come last.
_ORDER = (
    "grad-cam", "hires-cam", "xgrad-cam", "layer-cam", "grad-cam++", "gradient-rollout",
    "occlusion",
    "integrated-gradients", "smoothgrad", "saliency", "grad-cam-guided-rule", "grad-cam-relu-rule",
    "guided-grad-cam", "guided", "relu", "attention-rollout",
    "eigen-cam",
)  # fmt: skip


def lead_of(explanations: Sequence[Explanation]) -> Explanation:
    """The map to begin with: of those with the fewest doubts the one that is easiest to read."""
    return min(explanations, key=_rank)


def doubts_of(explanation: Explanation) -> tuple[str, ...]:
    """The names of the checks that a map did not pass; what hiding does is told separately."""
    return tuple(
        check.name
        for check in explanation.checks
        if check.verdict == "doubtful" and check.name != HIDING
    )


def verdict_on(explanation: Explanation) -> str:
    """All checks of a map in a few words, such as "failed 1 of 3 checks"."""
    doubts = doubts_of(explanation)
    count = len(_judged(explanation))
    if doubts == ("empty",) and count == 1:
        return "empty: it marks nothing"
    if doubts:
        return f"failed {len(doubts)} of {pluralize(count, 'check')}"
    unjudged = " and ".join(check.name for check in explanation.checks if check.is_open)
    if unjudged:
        return f"no doubts, but {unjudged} cannot be judged"
    return passed_words(explanation)


def passed_words(explanation: Explanation) -> str:
    """How many checks a map has passed, where it has no doubts; "not checked" without any."""
    count = len(_judged(explanation))
    if not count:
        return "not checked"
    return {1: "passed its only check", 2: "passed both checks"}.get(
        count, f"passed all {count} checks"
    )


def _judged(explanation: Explanation) -> list[Check]:
    """The checks with a judgement; what hiding does is told separately."""
    return [each for each in explanation.checks if each.verdict != "note" and each.name != HIDING]


def _rank(explanation: Explanation) -> tuple[bool, int, int]:
    is_empty = not (shown(explanation) > 0).any()
    place = _ORDER.index(explanation.method) if explanation.method in _ORDER else len(_ORDER)
    # Without any judgement, these would have the fewest doubts and still explain no class.
    return is_empty or explanation.method in CLASSLESS, len(doubts_of(explanation)), place
