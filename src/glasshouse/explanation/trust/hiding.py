"""What the answer becomes when the area that a map marks is hidden, in words."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from glasshouse.explanation.graph.recording import computing
from glasshouse.explanation.inputs import answering, as_inputs
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Check, Explanation, Verdict, class_name_at
from glasshouse.explanation.trust.faithfulness import NEGLIGIBLE
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import evaluating
from glasshouse.wording import percentage

HIDING, ELSEWHERE = "hiding", "hiding elsewhere"
# The share of an image that a map marks: the strongest fifth, as far as it speaks for the class.
MARKED = 0.2
# Smaller changes of a probability are not worth a reader's attention.
_LITTLE = 0.05
# The answer on a label that is not predicted, where an image may have several.
_NOT = "no "
_THIRDS = tuple((down, right) for down in range(3) for right in range(3) if down or right)


@dataclass(frozen=True)
class Hiding:
    """The answers for one image, and for the image without the area that a map marks.

    name: the explained class; before, after: its probability. answer, answer_after: the predicted
    classes. elsewhere: its probability with an area of the same shape hidden in each of several
    other places; changed_elsewhere: in how many of them the answer changed. area: the share of the
    image that was hidden. is_region: whether the map marks regions and not single pixels.
    """

    name: str
    before: float
    after: float
    answer: str
    answer_after: str
    elsewhere: tuple[float, ...]
    changed_elsewhere: int
    area: float
    is_region: bool = True

    @property
    def marked(self) -> str:
        """What is hidden, in words."""
        return "marked area" if self.is_region else "marked pixels"

    @property
    def equal(self) -> str:
        """What is hidden in other places for comparison, in words."""
        return "an equal area elsewhere" if self.is_region else "as many pixels elsewhere"

    @property
    def mean_elsewhere(self) -> float:
        """The mean probability of the explained class with an equal area elsewhere hidden."""
        return float(np.mean(self.elsewhere))


def hiding_sentence(found: Hiding) -> str:
    """What was measured, in one sentence that claims no more than that."""
    name, other = found.name, found.answer_after
    if found.area == 0:
        return f"The map is empty: it marks nothing that speaks for {name}."
    if found.before < NEGLIGIBLE:
        share = percentage(found.before)
        return (
            f"Nothing can be judged: {name} has a probability of {share}, too low for hiding an "
            "area to lower it."
        )
    if found.answer != name:
        return f"{_says(found)}; hiding the {found.marked} {_change(found)}."
    if other != name:
        return _changed_answer(found)
    drop = found.before - found.after
    if drop < -_LITTLE:
        return (
            f"Hiding the {found.marked} makes it more certain of {name} ({_from_to(found)}): it "
            "does not need what this map marks."
        )
    if drop < _LITTLE:
        return (
            f"The answer {name} does not depend on the {found.marked} alone: with "
            f"{'it' if found.is_region else 'them'} hidden, {name} is still at "
            f"{percentage(found.after)}."
        )
    sentence = f"Hiding the {found.marked} {_change(found)}; it still answers {name}"
    if _is_as_low_elsewhere(found):
        return f"{sentence}, and hiding {found.equal} lowers it about as much on average."
    return f"{sentence}."


def hiding_details(found: Hiding) -> str:
    """The numbers behind the sentence."""
    if found.area == 0:
        return ""
    count = len(found.elsewhere)
    return (
        f"Measured by hiding the marked {percentage(found.area)} of the image: {found.name} "
        f"{_from_to(found)}, answer {found.answer_after}. The same shape hidden in {count} other "
        f"places: {found.name} {percentage(found.mean_elsewhere)} on average; the answer changes "
        f"in {found.changed_elsewhere} of {count}."
    )


def marked_area(explanation: Explanation) -> NDArray[np.bool_]:
    """The pixels ``(n, h, w)`` that a map marks: its largest positive values, a fifth at most."""
    maps = shown(explanation)
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(MARKED * flat.shape[1]))
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    marked = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(marked, order, True, axis=1)
    result: NDArray[np.bool_] = (marked & (flat > 0)).reshape(maps.shape)
    return result


def check_hiding(classifier: Classifier, explanation: Explanation) -> Explanation:
    """Check what hiding the marked area of the first image does to the answer, see `hide`."""
    found = hide(classifier, explanation)
    checks = [Check(HIDING, (found.before, found.after), _verdict(found), hiding_sentence(found))]
    if found.area:
        checks.append(Check(ELSEWHERE, found.elsewhere, "note", hiding_details(found)))
    return replace(explanation, checks=(*explanation.checks, *checks))


def hide(classifier: Classifier, explanation: Explanation) -> Hiding:
    """The answers for the first image with its marked area hidden, and with others hidden.

    Hidden pixels are zero after preprocessing, as for occlusion. The other areas have the shape of
    the marked one, shifted by thirds of the image: scattered pixels, or a square, would hide
    another amount of detail. One forward pass of ten images.
    """
    marked = marked_area(explanation)[0]
    height, width = marked.shape
    shifts = [(down * height // 3, right * width // 3) for down, right in _THIRDS]
    others = [np.roll(marked, shift, axis=(0, 1)) for shift in shifts]
    masks = torch.from_numpy(np.stack([np.zeros_like(marked), marked, *others]))
    image = as_inputs(classifier, explanation.images[:1])
    inputs = image.masked_fill(masks[:, None].to(image.device), 0)
    net = answering(classifier)
    with computing(inputs.device), evaluating(net):
        logits = net(inputs)
    shares = classifier.to_probabilities(logits.cpu().double().numpy())
    target = int(explanation.targets[0])
    answers = _answers(classifier, shares, target)
    return Hiding(
        name=class_name_at(explanation.class_names, target),
        before=float(shares[0, target]),
        after=float(shares[1, target]),
        answer=answers[0],
        answer_after=answers[1],
        elsewhere=tuple(shares[2:, target].tolist()),
        changed_elsewhere=sum(each != answers[0] for each in answers[2:]),
        area=float(marked.mean()),
        is_region=explanation.is_region,
    )


def _answers(classifier: Classifier, shares: NDArray[np.float64], target: int) -> list[str]:
    """The answer of each image: its class, or whether the explained label is predicted."""
    names = classifier.class_names
    if classifier.thresholds is None:
        return [class_name_at(names, int(best)) for best in shares.argmax(1)]
    own = class_name_at(names, target)
    is_found = shares[:, target] >= classifier.thresholds[target]
    return [own if found else f"{_NOT}{own}" for found in is_found]


def _says(found: Hiding) -> str:
    """An answer other than the explained class."""
    if found.answer == f"{_NOT}{found.name}":
        return f"It does not find {found.name}"
    return f"It answers {found.answer}, not {found.name}"


def _changed_answer(found: Hiding) -> str:
    count = len(found.elsewhere)
    if 4 * found.changed_elsewhere <= count:
        return (
            f"It answers {found.name} mainly because of the {found.marked}: hiding "
            f"{'it' if found.is_region else 'them'} changes the answer to {found.answer_after}."
        )
    return (
        f"Hiding the {found.marked} changes the answer from {found.name} to {found.answer_after}, "
        f"but hiding {found.equal} also changes it in {found.changed_elsewhere} of {count} places: "
        f"the reason is not in the {found.marked} alone."
    )


def _verdict(found: Hiding) -> Verdict:
    if found.area == 0 or found.before < NEGLIGIBLE:
        return "note"
    drop = found.before - found.after
    if drop < -_LITTLE:
        return "doubtful"
    if drop < _LITTLE:
        return "note"
    if _is_as_low_elsewhere(found):
        return "doubtful"
    return "note" if 4 * found.changed_elsewhere > len(found.elsewhere) else "good"


def _is_as_low_elsewhere(found: Hiding) -> bool:
    if found.answer_after != found.answer:
        # That the answer changes is a lead already. In the precision that readers see.
        return round(found.mean_elsewhere, 2) <= round(found.after, 2)
    return found.mean_elsewhere - found.after < _LITTLE


def _change(found: Hiding) -> str:
    """The change of the explained class, as a verb: "lowers cat from 91 % to 74 %"."""
    drop = found.before - found.after
    if abs(drop) < _LITTLE:
        return f"hardly changes {found.name} ({_from_to(found)})"
    verb = "lowers" if drop > 0 else "raises"
    return f"{verb} {found.name} {_from_to(found)}"


def _from_to(found: Hiding) -> str:
    return f"from {percentage(found.before)} to {percentage(found.after)}"
