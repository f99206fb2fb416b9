"""The worst mistakes of a run, explained for its report."""

import numpy as np
from numpy.typing import NDArray

from glasshouse.data.images import ImageSet, Splits, take
from glasshouse.errors import DataError, GlasshouseError
from glasshouse.evaluation.metrics import mistake_positions
from glasshouse.explanation.mistakes import explain_mistakes
from glasshouse.models.classifier import Classifier
from glasshouse.models.predict import Predictions
from glasshouse.report.explanation_page import ExplainedMistakes
from glasshouse.training.head_choice import FEW
from glasshouse.wording import pluralize

# Few, because every training run explains them: three passes over this many images.
_MOST = 6
_LEGEND = (
    "Each row shows an image, what speaks for the predicted class, what speaks for the true class, "
    "and what speaks for the one rather than the other: red for the predicted class, blue for the "
    "true one. Each map has its own colours, up to the number below it, in logit units."
)


def explain_worst(
    classifier: Classifier,
    splits: Splits,
    validation: Predictions,
    held_out: Predictions | None = None,
    *,
    is_trained_on: bool = False,
) -> ExplainedMistakes:
    """Explain the most confident mistakes on images that are not test images; six at most.

    held_out: predictions of training and validation images by heads that have not seen them, which
    are used instead of those of a small validation split. is_trained_on: whether the validation
    images were trained on. A network that cannot be explained gets a sentence that says why.
    """
    found = validation if held_out is None else held_out
    title, where = _where(len(validation), found, held_out is not None, is_trained_on)
    positions = mistake_positions(found)
    if not len(positions):
        return ExplainedMistakes(title, f"There are no mistakes. {where}")
    chosen = _rows(found, positions[:_MOST])
    images = images_named(splits, chosen.ids)
    try:
        mistakes = explain_mistakes(classifier, images, chosen, count=_MOST, pairs=0)[0]
    except GlasshouseError as error:
        return ExplainedMistakes(title, f"{where} They cannot be explained: {error}.")
    count = f"The {len(chosen)} most confident of {pluralize(len(positions), 'mistake')}."
    if len(positions) <= _MOST:
        count = f"All {pluralize(len(positions), 'mistake')}, the most confident first."
    return ExplainedMistakes(title, f"{count} {where} {_LEGEND}", mistakes)


def images_named(splits: Splits, ids: NDArray[np.str_]) -> ImageSet:
    """The training and validation images with these ids, in this order.

    Raises DataError for an id that neither split has.
    """
    sets = (splits.train, splits.validation)
    places = {name: (s, row) for s in (0, 1) for row, name in enumerate(sets[s].ids.tolist())}
    missing = [name for name in ids.tolist() if name not in places]
    if missing:
        raise DataError(
            f"the predictions have {pluralize(len(missing), 'image')} that the training and "
            f"validation split have not, such as {missing[0]}: the source has changed since the "
            "training, or a file of another run was put in its folder. Train again."
        )
    parts = [take(sets[s], [row]) for s, row in (places[name] for name in ids.tolist())]
    masks = [part.masks for part in parts if part.masks is not None]
    return ImageSet(
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.ids for part in parts]),
        splits.class_names,
        np.concatenate(masks) if len(masks) == len(parts) else None,
    )


def _where(
    validation: int, found: Predictions, is_held_out: bool, is_trained_on: bool
) -> tuple[str, str]:
    """A title, and which images these are and what follows from that."""
    if is_held_out:
        return (
            "Worst mistakes on the training and validation images, explained",
            f"The validation split has only {pluralize(validation, 'image')}, so each of the "
            f"{len(found):,} training and validation images was predicted by a head that was not "
            "fitted to it; the maps are those of the final classifier, which was fitted to some of "
            "them and may answer differently.",
        )
    title = "Worst mistakes on the validation split, explained"
    if is_trained_on:
        return title, "These images were also trained on: on new images there are more mistakes."
    if validation < FEW:
        return (
            title,
            f"The split has only {pluralize(validation, 'image')}, so these are few; with a "
            "pretrained network, glasshouse label-errors also predicts the training images without "
            "having seen them.",
        )
    return title, "The test split is left alone, since what is learned here may change the model."


def _rows(predictions: Predictions, positions: NDArray[np.int64]) -> Predictions:
    return Predictions(
        predictions.logits[positions],
        predictions.labels[positions],
        predictions.ids[positions],
        predictions.class_names,
        predictions.temperature,
    )
