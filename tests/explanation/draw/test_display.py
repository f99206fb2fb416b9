from typing import Any

from glasshouse.explanation.draw.canvas import to_png
from glasshouse.explanation.draw.sheet import draw_sheet
from glasshouse.explanation.draw.strip import draw_strip
from glasshouse.explanation.draw.tiles import draw_activations, draw_channel
from glasshouse.explanation.explain import explain, explain_page
from glasshouse.explanation.methods import ExplainSettings
from glasshouse.explanation.trust.checks import check_all
from tests.explanation.nets import classifier_of, module_net, some_images

PNG = b"\x89PNG"


def test_everything_draws_itself_and_equal_things_give_equal_bytes() -> None:
    classifier = classifier_of(module_net())
    settings = ExplainSettings(activation_layers=("1", "7"))
    page = explain_page(classifier, some_images(), settings=settings)
    explanation = page.explanations[3]
    assert explanation._repr_png_() == explanation._repr_png_()
    assert page._repr_png_().startswith(PNG)
    assert explanation._repr_html_().startswith('<img src="data:image/png')
    for layer in page.activations:
        assert layer._repr_png_().startswith(PNG)
    for image in (
        draw_sheet(page),
        draw_channel(page.activations[0], 2),
        draw_activations(page.activations[0], most=4, shared_scale=True),
        draw_strip([("epoch 1", explanation), ("epoch 2", explanation)]),
    ):
        assert to_png(image).startswith(PNG)


def test_a_notebook_shows_what_explain_returns_one_map_below_another() -> None:
    classifier = classifier_of(module_net())
    found: Any = explain(classifier, some_images(1), methods=["saliency", "guided"])
    saliency, guided = found
    checked: Any = check_all(classifier, found)
    for several in (found, checked):
        assert type(several) is not tuple and len(several) == 2
        assert several._repr_html_().count('<img src="data:image/png') == 2
    assert found._repr_html_() == saliency._repr_html_() + guided._repr_html_()
    assert repr(found) == f"({saliency!r}, {guided!r})"
