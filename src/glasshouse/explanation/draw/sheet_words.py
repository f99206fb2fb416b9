"""What a sheet says of an image and of its maps, as text without any drawing."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from glasshouse.data.targets import joined_names
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.methods import METHODS, QUESTIONS
from glasshouse.explanation.nouns import Explanation, ExplanationPage, class_name_at, target_name
from glasshouse.explanation.page_sets import sets_of_page
from glasshouse.explanation.trust.hiding import ELSEWHERE, HIDING
from glasshouse.explanation.trust.lead import doubts_of, lead_of, passed_words, verdict_on
from glasshouse.explanation.trust.sanity import is_same_map
from glasshouse.models.predict import predicted_classes, to_probabilities
from glasshouse.models.prediction_sets import set_line
from glasshouse.wording import abbreviated, listed, percentage

MARKS = {
    "good": ("\N{CHECK MARK}", "#2e7d32"),
    "doubtful": ("!", "#b3261e"),
    "note": ("\N{BULLET}", "#555555"),
}
# Under a small map, each doubt in a few words; the record of the page has the numbers.
_DOUBTS = {
    "random head": "hardly changes when the last layer is random",
    "edges": "resembles an edge detector",
    "faithfulness": "what it marks matters no more than random pixels or edges",
    "empty": "empty: it marks nothing",
}
_CHECKS_SAID = (
    "Checks of each map: does it change when the last layer is random, is it more than edges, does "
    "the answer rely on its pixels? The numbers are in page.json."
)


def question_of(page: ExplanationPage, index: int, longest: int = 200) -> str:
    """What a page answers: why the answer, or what speaks for a class that is not the answer.

    longest: letters of the class's name.
    """
    if not page.explanations:
        return "What is this?"
    name = abbreviated(target_name(page.explanations[0], index), longest)
    shares = to_probabilities(page.logits[index], page.temperature, page.thresholds)
    own = int(page.explanations[0].targets[index])
    is_answer = own == shares.argmax()
    if page.thresholds is not None:
        is_answer = shares[own] >= page.thresholds[own]
    return f"Why {name}?" if is_answer else f"What speaks for {name}?"


def described_page(page: ExplanationPage, index: int) -> str:
    """The image, the model, the answer and the explained class with their probabilities."""
    shares = to_probabilities(page.logits[index], page.temperature, page.thresholds)
    best = int(shares.argmax())
    name = abbreviated(class_name_at(page.class_names, best))
    answer = f"answer: {name} {percentage(float(shares[best]))}"
    if page.thresholds is not None:
        found = [
            each["class"]
            for each in predicted_classes(shares, page.class_names, 0, page.thresholds)
        ]
        answer = f"answer: {joined_names([str(each) for each in found])}"
        best = -1  # The probability of the explained label is always worth saying.
    # A long name would leave no room for the answer.
    file = abbreviated(Path(page.names[index]).name) if page.names else ""
    said = [file, abbreviated(page.model, 60), answer]
    if page.explanations:
        own = int(page.explanations[0].targets[index])
        if own != best:
            name = abbreviated(target_name(page.explanations[0], index))
            said.append(f"explained: {name} {percentage(float(shares[own]))}")
    return "  \N{MIDDLE DOT}  ".join(part for part in said if part)


def set_words(page: ExplanationPage, index: int) -> str:
    """The prediction set of an image with its coverage; empty where there is none."""
    sets = sets_of_page(page)
    return "" if sets is None else set_line(sets, index)


def grouped(
    explanations: Sequence[Explanation], index: int
) -> list[tuple[str, list[list[Explanation]]]]:
    """Each question with the maps that answer it, without the one to begin with.

    Identical maps, and those of a layer that mark nothing, are one entry; those identical to the
    first map are named with it instead.
    """
    first = lead_of(explanations)
    rest = [each for each in explanations if not is_same_map(each, first)]
    groups = []
    for key, question in QUESTIONS.items():
        members: list[list[Explanation]] = []
        for each in rest:
            if METHODS[each.method].question != key:
                continue
            alike = (known for known in members if _is_drawn_alike(known[0], each, index))
            same = next(alike, None)
            if same is None:
                members.append([each])
            else:
                same.append(each)
        if members:
            groups.append((question.format(name=target_name(first, index)), members))
    return groups


def _is_drawn_alike(first: Explanation, second: Explanation, index: int) -> bool:
    # Raw maps with nothing but what speaks against a class differ, and look the same.
    is_empty = not any((shown(each)[index] != 0).any() for each in (first, second))
    return (is_empty and first.layer == second.layer) or is_same_map(first, second)


def method_titles(same: Sequence[Explanation]) -> str:
    """What identical maps are called, for example "Grad-CAM and HiResCAM at conv5"."""
    names = [METHODS[each.method].title for each in same]
    layer = same[0].layer
    return f"{listed(names)} at {layer}" if layer else listed(names)


def short_checks(explanation: Explanation) -> list[tuple[str, str]]:
    """Each doubt about a map in a few words, or that there is none; (verdict, words)."""
    checks = [c for c in explanation.checks if c.name not in (HIDING, ELSEWHERE)]
    # The sentence of a note begins with what it says in short.
    notes = [
        ("note", f"{c.name}: cannot be judged" if c.is_open else c.words.split(":")[0].lower())
        for c in checks
        if c.verdict == "note" and c.name != "sameness"
    ]
    if not checks:
        return []
    doubts = [("doubtful", _DOUBTS[name]) for name in doubts_of(explanation)]
    return [*doubts, *notes] or [("good", passed_words(explanation))]


def line_of_checks(explanation: Explanation) -> str:
    """What the checks say of a map, such as "failed 1 of 3 checks: resembles an edge detector"."""
    verdict = verdict_on(explanation)
    if not doubts_of(explanation) or verdict == _DOUBTS["empty"]:
        return verdict
    return f"{verdict}: {'; '.join(words for _, words in short_checks(explanation))}"


def notes_of(explanations: Sequence[Explanation]) -> list[str]:
    """The notes and warnings of all maps, each once, with the methods that it applies to."""
    lines = [_CHECKS_SAID] if any(each.checks for each in explanations) else []
    first = lead_of(explanations)
    same = [each for each in explanations if each is not first and is_same_map(each, first)]
    if same:
        lines.append(f"Identical to the map to begin with: {method_titles(same)}.")
    said = ((each, (*each.warnings, *each.notes)) for each in explanations)
    return [*lines, *_each_once(said)]


def warnings_of(explanations: Sequence[Explanation]) -> list[str]:
    """The warnings of all maps, each once, with the methods that it applies to."""
    return _each_once((each, each.warnings) for each in explanations)


def _each_once(said: Iterable[tuple[Explanation, Sequence[str]]]) -> list[str]:
    titles: dict[str, list[str]] = {}
    count = 0
    for explanation, sentences in said:
        count += 1
        for sentence in sentences:
            titles.setdefault(sentence, []).append(METHODS[explanation.method].title)
    return [
        sentence
        if sentence.startswith("Layer: ")
        else f"{'All maps' if 1 < len(names) == count else ', '.join(names)}: {sentence}"
        for sentence, names in titles.items()
    ]
