"""Every check that says whether a map can be trusted."""

from collections.abc import Sequence
from dataclasses import replace

from glasshouse.explanation.graph.recording import Recording
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, ExplanationPage, ShownTogether
from glasshouse.explanation.trust.faithfulness import check_faithfulness
from glasshouse.explanation.trust.hiding import check_hiding
from glasshouse.explanation.trust.lead import lead_of
from glasshouse.explanation.trust.sanity import (
    check_content,
    check_edges,
    check_head,
    check_sameness,
)
from glasshouse.models.classifier import Classifier


def check_page(
    classifier: Classifier, page: ExplanationPage, recording: Recording | None = None
) -> ExplanationPage:
    """The page with every check on its maps; recording: see `check_all`."""
    if not page.explanations:
        return page
    return replace(page, explanations=check_all(classifier, page.explanations, recording))


def check_all(
    classifier: Classifier,
    explanations: Sequence[Explanation],
    recording: Recording | None = None,
) -> tuple[Explanation, ...]:
    """Every check of this package on the maps of one `explain` call, cheapest first.

    A map that is empty for every image gets no further checks. Of a single image, the map to begin
    with is also checked by hiding the area that it marks. recording: of the same images with
    every layer, where there is one, which saves a forward pass.
    """
    done = {each.method: each for each in check_content(explanations)}
    filled = [each for each in done.values() if shown(each).any()]
    if filled:
        known = check_head(classifier, check_sameness(check_edges(filled)), recording=recording)
        done |= {each.method: each for each in check_faithfulness(classifier, known)}
    checked = [done[each.method] for each in explanations]
    if len(explanations[0]) == 1:
        first = lead_of(checked)
        done[first.method] = check_hiding(classifier, first)
    return ShownTogether(done[each.method] for each in explanations)
