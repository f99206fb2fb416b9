import asyncio
import io
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from glasshouse.models.classifier import Classifier
from glasshouse.models.inference import InferenceNet, inference_net
from glasshouse.models.predict import logits_of, most_probable, read_images, softmax
from glasshouse.serving.service import served_models, service as serving
from glasshouse.serving.service.access import AccessRules
from glasshouse.serving.service.api import create_api
from glasshouse.serving.service.limits import Limits
from glasshouse.serving.service.service import Service, make_service
from glasshouse.serving.service.uploads import OPTIONS
from tests.serving.service.conftest import CLASS_NAMES, Caller, NoneForBlack, black, png

RAW = {"content-type": "image/png"}
PROBLEM = "application/problem+json"


def offline(classifier: Classifier, files: list[bytes], folder: Path) -> list[dict[str, float]]:
    """What `glasshouse predict` says of the files: each class's probability."""
    paths = [folder / f"{i}.png" for i in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    logits = logits_of(classifier, read_images(paths, classifier))
    shares = softmax(logits / classifier.temperature)
    rows = [most_probable(row, classifier.class_names, 4) for row in shares]
    return [{str(each["class"]): float(each["probability"]) for each in row} for row in rows]


def test_predictions_equal_the_offline_ones_however_they_were_batched(
    ask: Caller, classifier: Classifier, tmp_path: Path
) -> None:
    files = [png(seed) for seed in range(64)]
    expected = offline(classifier, files, tmp_path)
    answers = ask.together([("POST", "/predict", {"content": f, "headers": RAW}) for f in files])
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer.status_code == 200, answer.text
        found = answer.json()["predictions"][0]["top"]
        shares = [each["probability"] for each in found]
        assert shares == sorted(shares, reverse=True)
        assert {each["class"]: each["probability"] for each in found} == pytest.approx(
            wanted, abs=2e-6
        )


def test_the_images_of_a_form_come_back_in_order_with_their_names(ask: Caller) -> None:
    names = ["one.png", "<b>two</b>.png", "../../three.png"]
    form = [("images", (name, png(i), "image/png")) for i, name in enumerate(names)]
    answer = ask("POST", "/predict?top=2", files=form)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found = answer.json()
    assert found["model"] == "tiny"
    assert [each["image"] for each in found["predictions"]] == names
    assert {len(each["top"]) for each in found["predictions"]} == {2}
    for index, each in enumerate(found["predictions"]):
        alone = ask("POST", "/predict?top=2", content=png(index), headers=RAW).json()
        assert each["top"][0]["class"] == alone["predictions"][0]["top"][0]["class"]


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"content": b"hello", "headers": RAW}, 422, "not an image in a supported format"),
        ({"content": b"", "headers": RAW}, 422, "empty"),
        ({"content": png(0)[:200], "headers": RAW}, 422, "image:"),
        ({"content": png(0, (200, 60)), "headers": RAW}, 422, "0.01 megapixels"),
        ({"content": b"x" * (2 << 20), "headers": RAW}, 413, "1 MiB"),
        ({"content": b"{}", "headers": {"content-type": "text/html"}}, 415, "text/html"),
        ({"content": b"abc", "headers": {"content-type": "multipart/form-data"}}, 422, "form"),
        ({"files": [("a", ("a.png", png(i))) for i in range(9)]}, 422, "up to 8 files"),
        ({"files": [("a", (None, png(0)))]}, 422, "no files"),
        ({"files": [("a", (None, "x"))]}, 422, "received the fields 'a'"),
        ({"content": png(0), "headers": {"content-type": "application/x-www-form-urlencoded"}}, 415,
         "-H 'Content-Type: application/octet-stream'"),
    ],
)  # fmt: skip
def test_an_invalid_request_is_a_problem_with_a_reason(
    ask: Caller, more: dict[str, object], status: int, words: str
) -> None:
    answer = ask("POST", "/predict", **more)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["status"] == status
    assert words in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_other_fields_of_a_form_are_ignored_and_options_among_them_named(ask: Caller) -> None:
    file = [("a", ("a.png", png(0)))]
    plain = ask("POST", "/predict", files=file).json()
    assert ask("POST", "/predict", data={"user": "x", "csrf": "y"}, files=file).json() == plain
    found = ask("POST", "/predict", data={"top": "1", "user": "x"}, files=file).json()
    (first,) = found["predictions"]
    (words,) = first.pop("warnings")
    assert "'top' was ignored" in words and "query string" in words
    assert found == plain


def test_every_option_of_a_query_is_known_as_one(ask: Caller) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    named = [each["name"] for path in ("/predict", "/explain")
             for each in paths[path]["post"]["parameters"]]  # fmt: skip
    assert set(named) <= OPTIONS


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", 4), ("top=2", 2), ("top=2&top=3", 3), ("top=%32", 2), ("unknown=1&top=1", 1),
        ("top=2&unknown=" + "x" * 2000, 2), ("top=", None), ("top=0", None), ("top=two", None),
        ("coverage=1", None), ("sets=none", None), ("class_conditional=maybe", None),
        ("top=2&model=" + "x" * 201, None), ("top=\N{SNOWMAN}", None),
    ],
)  # fmt: skip
def test_a_query_is_read_the_same_however_often_it_is_asked(
    ask: Caller, query: str, found: int | None
) -> None:
    answers = [ask("POST", f"/predict?{query}", content=png(0), headers=RAW) for _ in range(2)]
    for answer in answers:
        if found is not None:
            assert len(answer.json()["predictions"][0]["top"]) == found
        else:
            assert answer.status_code == 422 and answer.json()["type"].endswith(":invalid")
            assert answer.json()["errors"][0]["where"].startswith("query.")


def test_head_is_get_without_a_body(ask: Caller) -> None:
    for path in ("/", "/docs", "/healthz", "/openapi.json", "/v2", "/v2/models/tiny", "/nothing"):
        whole, head = ask("GET", path), ask("HEAD", path)
        assert head.content == b"" != whole.content
        assert head.status_code == whole.status_code
        assert head.headers["content-type"] == whole.headers["content-type"]
        if path != "/nothing":  # a problem names its own request
            assert head.headers["content-length"] == whole.headers["content-length"]
    assert ask("HEAD", "/predict").status_code == 405
    assert 'method="HEAD",route="/healthz",status="200"' in ask("GET", "/metrics").text


def test_options_name_the_methods_of_a_path(ask: Caller) -> None:
    for path, methods in (("/healthz", "GET, HEAD, OPTIONS"), ("/predict", "POST, OPTIONS")):
        answer = ask("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (204, methods)
        assert answer.content == b"" and ask("DELETE", path).headers["allow"] == methods
        assert "access-control-allow-origin" not in answer.headers
    assert ask("OPTIONS", "/nothing").status_code == 404


def test_pages_of_allowed_origins_may_read_responses_and_errors(service: Service) -> None:
    own, other = "https://photos.example", "https://evil.example"
    rules = AccessRules(api_key="s3cret", origins=frozenset({own}))
    ask = Caller(create_api(service, rules))
    preflight = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-api-key",
    }
    allowed = ask("OPTIONS", "/predict", headers={"origin": own, **preflight})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == own
    assert "x-api-key" in allowed.headers["access-control-allow-headers"]
    refused = ask("OPTIONS", "/predict", headers={"origin": other, **preflight})
    assert refused.status_code == 400 and "access-control-allow-origin" not in refused.headers
    for headers, status in ((RAW, 401), (RAW | {"x-api-key": "s3cret"}, 200)):
        for origin, shown in ((own, own), (other, None)):
            answer = ask("POST", "/predict", content=png(0), headers=headers | {"origin": origin})
            assert answer.status_code == status
            assert answer.headers.get("access-control-allow-origin") == shown
            assert "origin" in answer.headers["vary"].lower()


def test_a_body_without_a_declared_length_is_limited_too(ask: Caller) -> None:
    def chunks() -> list[bytes]:
        return [b"x" * 500_000] * 4

    class Stream:
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            for chunk in chunks():
                yield chunk

    assert ask("POST", "/predict", content=Stream(), headers=RAW).status_code == 413


def test_an_image_of_few_grey_levels_is_warned_of_by_name(ask: Caller) -> None:
    dark = io.BytesIO()
    values = np.linspace(0, 4095, 20 * 24).reshape(20, 24).astype(np.uint16)
    Image.fromarray(values).save(dark, "PNG")
    form = [("images", ("a.png", png(1))), ("images", ("12-bit.png", dark.getvalue()))]
    for path, key in (("/predict", "predictions"), ("/explain?methods=saliency", "explanations")):
        first, second = ask("POST", path, files=form).json()[key]
        assert "warnings" not in first
        (words,) = second["warnings"]
        assert "12-bit.png (values 0 to 4,095 of 65,535)" in words and "multiply by 16" in words


def test_an_image_of_several_frames_is_warned_of_by_name(ask: Caller) -> None:
    moving, first = io.BytesIO(), Image.new("L", (24, 20))
    first.save(moving, "GIF", save_all=True, append_images=[Image.new("L", (24, 20), 9)])
    form = [("images", ("a.gif", moving.getvalue()))]
    (found,) = ask("POST", "/predict", files=form).json()["predictions"]
    assert found["warnings"] == ["a.gif: several frames or pages, of which only the first is used"]


def test_a_bad_image_does_no_harm_to_those_of_its_batch(ask: Caller) -> None:
    files = [png(0), b"hello", png(1), png(0)[:200], png(2)]
    alone = [ask("POST", "/predict", content=f, headers=RAW).json() for f in files]
    # Small files are decoded in the batch that classifies them.
    found = ask.together([("POST", "/predict", {"content": f, "headers": RAW}) for f in files])
    assert [each.status_code for each in found] == [200, 422, 200, 422, 200]
    for each, wanted in zip(found, alone, strict=True):
        assert each.json().get("predictions") == wanted.get("predictions")


def test_every_bad_image_of_a_form_is_named(ask: Caller) -> None:
    files = {"good.png": png(0), "<i>x</i>": b"nothing", "cut.png": png(1)[:99]}
    form = [("p", (name, data)) for name, data in files.items()]
    problem = ask("POST", "/predict", files=form).json()
    assert [each["where"] for each in problem["errors"]] == ["<i>x</i>", "cut.png"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/predict", 405), ("POST", "/predict?top=0", 422),
     ("POST", "/predict?top=x", 422), ("GET", "/predict/", 404)],
)  # fmt: skip
def test_framework_errors_are_problems_too(
    ask: Caller, method: str, path: str, status: int
) -> None:
    answer = ask(method, path, content=png(0), headers=RAW)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert answer.json()["type"].startswith("urn:glasshouse:problem:")


def test_an_internal_error_reveals_no_details(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_api(service)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    answer = Caller(app)("GET", "/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == PROBLEM
    assert "secret" not in answer.text
    assert answer.json()["request_id"] in caplog.text and "secret" in caplog.text


def test_a_valid_request_id_is_kept_and_an_invalid_one_replaced(ask: Caller) -> None:
    assert (
        ask("GET", "/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    )
    wrong = [("GET", "/healthz", {"headers": {"x-request-id": "a b<"}})] * 3
    found = {answer.headers["x-request-id"] for answer in ask.together(wrong)}
    assert len(found) == 3 and all(re.fullmatch("[0-9a-f]{32}", each) for each in found)


def test_with_a_key_requests_without_it_are_rejected(service: Service) -> None:
    ask = Caller(create_api(service, AccessRules(api_key="s3cret")))
    for headers in ({}, {"x-api-key": "s3cre"}, {"authorization": "Bearer no"}):
        answer = ask("GET", "/metrics", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for headers in ({"x-api-key": "s3cret"}, {"authorization": "Bearer s3cret"}):
        assert ask("GET", "/metrics", headers=headers).status_code == 200
    assert ask("GET", "/healthz").status_code == 200
    assert ask("GET", "/v2/health/ready").status_code == 200


def test_with_allowed_hosts_other_host_names_are_rejected(service: Service) -> None:
    ask = Caller(create_api(service, AccessRules(hosts=frozenset({"127.0.0.1"}))))
    assert ask("GET", "/healthz").status_code == 200
    assert ask("GET", "/healthz", headers={"host": "evil.example:80"}).status_code == 421
    assert ask("GET", "/healthz", headers={"host": "["}).status_code == 421


def test_requests_beyond_the_capacity_are_rejected_at_once(classifier: Classifier) -> None:
    service = make_service(classifier, "tiny", Limits(max_queue=2))
    ask = Caller(create_api(service))
    form = [("p", (f"{i}.png", png(i))) for i in range(3)]
    answer = ask("POST", "/predict", files=form)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["type"] == "urn:glasshouse:problem:overloaded"
    assert service.capacity.images == 0


def test_a_missed_deadline_is_a_503(classifier: Classifier) -> None:
    ask = Caller(create_api(make_service(classifier, "tiny", Limits(deadline=0.0))))
    answer = ask("POST", "/predict", content=png(0), headers=RAW)
    assert answer.status_code == 503
    assert "deadline" in answer.json()["detail"]
    assert "retry-after" in answer.headers


def test_a_closing_service_is_not_ready_but_still_responds(ask: Caller, service: Service) -> None:
    service.is_closing.set()
    assert ask("GET", "/v2/health/ready").status_code == 503
    assert ask("GET", "/v2/models/tiny/ready").status_code == 503
    assert ask("GET", "/healthz").status_code == 503
    assert ask("GET", "/v2/health/live").status_code == 200
    answer = ask("POST", "/predict", content=png(0), headers=RAW)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_metrics_count_requests_and_images_under_bounded_names(ask: Caller) -> None:
    ask("POST", "/predict", content=png(0), headers=RAW)
    for path in ("/x", "/y", "/v2/models/one", "/v2/models/two"):
        ask("GET", path)
    text = ask("GET", "/metrics").text
    assert 'glasshouse_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert "glasshouse_images_total 1.0" in text
    assert "/x" not in text and "two" not in text


def test_the_page_escapes_names_and_loads_nothing_from_other_hosts(ask: Caller) -> None:
    answer = ask("GET", "/")
    assert answer.headers["content-type"].startswith("text/html")
    assert CLASS_NAMES[2] not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "http://" not in answer.text and "https://" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_the_openapi_description_is_self_contained(ask: Caller) -> None:
    answer = ask("GET", "/openapi.json")
    document = answer.json()
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
    assert {"/predict", "/explain", "/v2/models/{model_name}/infer"} <= set(document["paths"])


def test_lone_surrogates_in_a_file_name_are_replaced(ask: Caller) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="p"; filename="\\ud800.png"\r\n\r\n'
        + png(0)
        + b"\r\n--b--\r\n"
    )
    kind = "multipart/form-data; boundary=b; charset=unicode_escape"
    answer = ask("POST", "/predict", content=form, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["image"] == "?.png"


def spoiled(net: torch.nn.Module, example: torch.Tensor) -> InferenceNet:
    """An inference network whose logits do not agree."""
    made = inference_net(net, example)
    return replace(made, net=torch.nn.Sequential(made.net, torch.nn.Hardtanh(-0.01, 0.01)))


def test_an_optimised_copy_serves_only_where_its_logits_agree(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in classifier.net.state_dict().items()}
    optimised = served_models.inference_copy(classifier)
    assert optimised.net is not classifier.net
    assert repr(optimised.net) != repr(classifier.net)
    assert all(torch.equal(v, before[n]) for n, v in classifier.net.state_dict().items())

    monkeypatch.setattr(served_models, "inference_net", spoiled)
    plain = served_models.inference_copy(classifier)
    assert plain.net is not classifier.net and repr(plain.net) == repr(classifier.net)
    assert all(torch.equal(v, before[n]) for n, v in plain.net.state_dict().items())


@pytest.mark.parametrize("agrees", [True, False])
def test_the_predictor_shares_no_module_with_the_explainer(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    if not agrees:
        monkeypatch.setattr(served_models, "inference_net", spoiled)
    used: list[Classifier] = []
    classify = serving._classify

    def noted(metrics: Any, items: Any) -> Any:
        used.append(items[0].model.fast)
        return classify(metrics, items)

    monkeypatch.setattr(serving, "_classify", noted)
    service = serving.make_service(classifier, "tiny")
    answer = Caller(create_api(service))("POST", "/predict", content=png(1), headers=RAW)
    assert answer.status_code == 200, answer.text
    assert used
    explained = {id(module) for module in service.models.find().classifier.net.modules()}
    for predicting in used:
        assert not explained & {id(module) for module in predicting.net.modules()}


def test_an_image_without_an_answer_is_a_problem_of_its_own(classifier: Classifier) -> None:
    broken = replace(classifier, net=NoneForBlack(classifier.net))
    ask = Caller(create_api(make_service(broken, "tiny")))
    dark = {"content": black(), "headers": RAW}
    noise = {"content": png(1), "headers": RAW}
    answers = ask.together(
        [("POST", "/predict", dark), ("POST", "/predict", noise), ("POST", "/explain", dark)]
    )
    assert [each.status_code for each in answers] == [500, 200, 500]
    for bad in (answers[0], answers[2]):
        assert bad.json()["type"] == "urn:glasshouse:problem:not-finite"
        assert "logits are NaN or infinite" in bad.json()["detail"]


def test_routes_are_built_before_the_first_request(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Caller(create_api(make_service(classifier, "tiny")))
    late: list[type] = []
    built = TypeAdapter.__init__

    def build(self: Any, type_: Any, **more: Any) -> None:
        late.append(type_)
        built(self, type_, **more)

    monkeypatch.setattr(TypeAdapter, "__init__", build)
    assert ask("POST", "/predict", content=png(1), headers=RAW).status_code == 200
    assert late == []


def test_a_client_that_leaves_while_it_sends_is_noted_and_gets_no_answer(
    ask: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[Any] = []

    async def leave() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-length", b"9")],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    with caplog.at_level(logging.INFO, "glasshouse.service"):
        asyncio.run(ask.app(scope, leave, send))
    assert not sent
    assert "the client left" in caplog.text


def test_a_coverage_is_between_0_and_1(ask: Caller) -> None:
    for wrong in ("0", "1", "-0.5", "nan"):
        answer = ask("POST", f"/predict?coverage={wrong}", content=png(0), headers=RAW)
        assert answer.status_code == 422
    described = ask("GET", "/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
    (coverage,) = (each["schema"] for each in described if each["name"] == "coverage")
    limits = next(each for each in coverage["anyOf"] if each["type"] == "number")
    assert (limits["exclusiveMinimum"], limits["exclusiveMaximum"]) == (0, 1)
