"""The page /docs describes every endpoint and loads nothing."""

import html
import re

from glasshouse.models.classifier import Classifier
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.docs_page import docs_html, operations_of
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import make_service
from tests.serving.service.conftest import Caller


def test_every_endpoint_and_schema_is_on_the_page(ask: Caller) -> None:
    answer = ask("GET", "/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    document = ask("GET", "/openapi.json").json()
    shown = html.unescape(re.sub(r"<[^>]+>", "", answer.text))
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f"{method.upper()} {path}" in shown
            assert operation["summary"] in shown
    for name in document["components"]["schemas"]:
        assert f'<section id="{name}">' in answer.text


def test_the_page_loads_nothing_from_anywhere(ask: Caller) -> None:
    answer = ask("GET", "/docs")
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_examples_name_the_model_and_send_what_is_needed(classifier: Classifier) -> None:
    app = create_api(make_service(classifier, "tiny", Limits()))
    found = {(one.method, one.path): one for one in operations_of(app.openapi(), "tiny")}
    assert "--data-binary" in found["POST", "/predict"].example
    assert all("{" not in one.example.partition(" ")[0] for one in found.values())
    assert any("/models/tiny/infer" in one.example for one in found.values())
    assert all(one.responses for one in found.values())


def test_defaults_are_written_as_in_an_address_and_schemas_are_links(ask: Caller) -> None:
    page = ask("GET", "/docs").text
    assert "default saliency, guided" in page and "boolean; default false" in page
    assert '<a href="#PredictionsDocument">PredictionsDocument</a>' in page
    assert 'problem details (RFC 9457): <a href="#ProblemDocument">ProblemDocument</a>' in page


def test_names_in_a_description_are_text_on_the_page() -> None:
    info = {"title": "<b>pets</b>", "description": "<i>of cats</i>"}
    schema = {
        "description": "A pet.",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "what it is called"},
            "age": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        },
    }
    page = docs_html({"info": info, "paths": {}, "components": {"schemas": {"Pet": schema}}}, "x")
    assert "<b>" not in page and "&lt;b&gt;pets&lt;/b&gt;" in page and "&lt;i&gt;" in page
    rows = re.findall(r"<tr><td><code>(\w+)</code>(.*?)</tr>", page)
    shown = {name: html.unescape(re.sub(r"<[^>]+>", " ", more)).split() for name, more in rows}
    assert shown["name"] == ["required", "string", "what", "it", "is", "called"]
    assert shown["age"] == ["integer"]
    assert docs_html({"info": {"title": "x"}, "paths": {}}, "x")
