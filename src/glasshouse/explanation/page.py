"""All that one look at some images gave."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glasshouse.explanation.activations import Activations
from glasshouse.explanation.graph.layer_choice import LayerChoice
from glasshouse.explanation.nouns import Explanation, Floats


@dataclass(frozen=True)
class ExplanationPage:
    """All that one look at some images gave: scores, explanations, activations of layers.

    logits: what the classifier answers, of the mirror image too where it sees both; maps explain
    the image as it is.
    """

    images: NDArray[np.uint8]
    logits: Floats
    class_names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    activations: tuple[Activations, ...]
    layer_choice: LayerChoice | None
    temperature: float = 1.0

    def _repr_png_(self) -> bytes:
        """The sheet of the first image, for a notebook."""
        from glasshouse.explanation.draw.cells import to_png
        from glasshouse.explanation.draw.sheet import draw_sheet

        return to_png(draw_sheet(self))


def join_pages(pages: Sequence[ExplanationPage]) -> ExplanationPage:
    """Pages of the same question for several batches as one."""
    first = pages[0]
    explanations = [
        _joined_explanation(parts) for parts in zip(*(p.explanations for p in pages), strict=True)
    ]
    activations = [
        Activations(parts[0].layer, np.concatenate([part.values for part in parts]))
        for parts in zip(*(p.activations for p in pages), strict=True)
    ]
    return replace(
        first,
        images=np.concatenate([page.images for page in pages]),
        logits=np.concatenate([page.logits for page in pages]),
        explanations=tuple(explanations),
        activations=tuple(activations),
    )


def _joined_explanation(parts: Sequence[Explanation]) -> Explanation:
    first = parts[0]
    channels = [part.channels for part in parts if part.channels is not None]
    against = [part.against for part in parts if part.against is not None]
    return replace(
        first,
        maps=np.concatenate([part.maps for part in parts]),
        images=np.concatenate([part.images for part in parts]),
        logits=np.concatenate([part.logits for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        against=np.concatenate(against) if against else None,
        channels=np.concatenate(channels) if channels else None,
    )
