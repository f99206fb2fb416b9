from glasshouse.serving.service.prometheus import Metrics
from tests.serving.service.conftest import Caller, png


def test_the_metrics_follow_the_conventions_of_prometheus(ask: Caller) -> None:
    assert ask("POST", "/predict", content=png(0)).status_code == 200
    text = ask("GET", "/metrics").text
    for line in (
        "# HELP glasshouse_requests_total HTTP requests by route, method and status.",
        "# TYPE glasshouse_request_duration_seconds histogram",
        "# TYPE glasshouse_forward_duration_seconds histogram",
        "# TYPE glasshouse_batch_size histogram",
        "glasshouse_images_total 1.0",
        "glasshouse_images_in_flight 0.0",
        "glasshouse_images_in_flight_limit 80.0",
        "glasshouse_request_body_bytes 0.0",
        "glasshouse_explanations_in_flight 0.0",
    ):
        assert line in text.splitlines(), line
    assert 'glasshouse_requests_total{method="POST",route="/predict",status="200"} 1.0' in text


def test_two_services_share_no_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.images.inc(3)
    assert b"glasshouse_images_total 3.0" in first.text()
    assert b"glasshouse_images_total 0.0" in second.text()
