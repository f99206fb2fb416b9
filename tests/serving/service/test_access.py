"""Which requests are accepted."""

import pytest
from starlette.datastructures import Headers

from glasshouse.serving.service.access import AccessChecks, AccessRules
from glasshouse.serving.service.problems import Problem


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Negotiate", ""])
def test_credentials_of_another_scheme_do_not_hide_the_key(scheme: str) -> None:
    checks = AccessChecks(AccessRules(api_key="s3cret"))
    checks.require("/predict", Headers({"authorization": f"{scheme} x", "x-api-key": "s3cret"}))
    with pytest.raises(Problem) as raised:
        checks.require("/predict", Headers({"authorization": f"{scheme} s3cret"}))
    assert raised.value.status == 401


def test_the_scheme_of_a_token_may_be_written_in_any_case() -> None:
    checks = AccessChecks(AccessRules(api_key="s3cret"))
    for scheme in ("bearer", "BEARER"):
        checks.require("/predict", Headers({"authorization": f"{scheme} s3cret"}))


def test_only_health_is_open_to_those_without_a_key() -> None:
    checks = AccessChecks(AccessRules(api_key="s3cret"))
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
        checks.require(path, Headers())
    for path in ("/", "/healthz/", "/v2/health", "/v2"):
        with pytest.raises(Problem):
            checks.require(path, Headers())
