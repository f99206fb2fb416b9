"""Of the shortcuts that a classifier uses, the one that names the cause best, and the others."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from glasshouse.explanation.shortcuts.class_cues import ClassCues
from glasshouse.explanation.shortcuts.places import BORDER, Place
from glasshouse.explanation.shortcuts.proof import CueTest

# Of tests that find about the same loss, the one that names the cause best comes first.
_SPECIFIC = ("place", "compression", "pattern", "tint", "background")
_ABOUT_AS_MUCH = 0.8
# A background has its colour and a part of every place, so that it loses what they lose.
_OF_BACKGROUND = 0.5


def ranked(
    tests: Sequence[CueTest], shares: Mapping[str, float], *, is_frame: bool
) -> tuple[CueTest, ...]:
    """The shortcuts, one test each: of all images, or of the class that loses most.

    shares: of each class in all images, by which a loss of one class is weighed. is_frame: whether
    the fixed patterns run around the images, as `are_frames` tells; a border that is used is then
    named before the pattern, and before an edge or a corner, which is a part of it.
    """

    def strength(test: CueTest) -> float:
        lost = min(test.excess.value, test.effect.lost.value)
        lost *= _OF_BACKGROUND if test.kind == "background" else 1
        return lost if test.subject == "all" else lost * shares[test.class_name]

    order = sorted(_one_each(tests, strength), key=strength, reverse=True)
    if not order:
        return ()
    border = next((test for test in order if test.name == BORDER), None)
    if is_frame and border is not None:
        first = border
    else:
        near = [test for test in order if strength(test) >= _ABOUT_AS_MUCH * strength(order[0])]
        first = min(near, key=lambda test: (_SPECIFIC.index(test.kind), -strength(test)))
    return (first, *(test for test in order if test is not first))


def _one_each(tests: Sequence[CueTest], strength: Callable[[CueTest], float]) -> Iterable[CueTest]:
    best: dict[str, CueTest] = {}
    for test in tests:
        known = best.get(test.name)
        is_wider = known is None or (known.subject != "all" and strength(test) > strength(known))
        if test.is_used and (test.subject == "all" or is_wider):
            best[test.name] = test
    return best.values()


def are_frames(cues: ClassCues, places: Sequence[Place]) -> bool:
    """Whether the fixed patterns of the classes differ more at each of the four edges than inside.

    The fine detail of natural images is denser inside, and a tag or text is at one side or two.
    """
    apart = ((cues.patterns - cues.patterns.mean(axis=0)) ** 2).sum(axis=(0, 1))
    edges = [place.mask for place in places if place.name.endswith("edge")]
    return all(apart[mask].mean() > apart.mean() for mask in edges)
