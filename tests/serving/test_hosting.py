"""What the variables of hosted notebooks change."""

import pytest

from glasshouse.errors import UsageError
from glasshouse.serving.hosting import Hosting, hosting_from
from glasshouse.serving.reach import root_path


def test_an_ordinary_machine_has_no_wishes() -> None:
    assert hosting_from({"HOME": "/root", "CDSW_DOMAIN": "ignored.example"}) == Hosting()


def test_a_session_of_cloudera_has_two_ports_and_a_domain() -> None:
    found = hosting_from(
        {"CDSW_APP_PORT": "8090", "CDSW_READONLY_PORT": "8100", "CDSW_DOMAIN": "ml.example"}
    )
    assert (found.address, found.hosts) == ("127.0.0.1", ("*.ml.example",))
    assert not found.needs_token
    assert found.usual_port(read_only=False) == 8090
    assert found.usual_port(read_only=True) == 8100


def test_the_port_for_viewers_alone_is_used_and_known_as_theirs() -> None:
    found = hosting_from({"CDSW_READONLY_PORT": "8100"})
    assert found.usual_port(read_only=False) == found.read_only_port == 8100


def test_a_hub_needs_a_token_and_keeps_the_path_at_one_address() -> None:
    found = hosting_from({"JUPYTERHUB_SERVICE_PREFIX": "/user/me/"})
    assert found.needs_token
    assert found.hosts == ("*",)
    assert found.root_paths(8080) == ("/user/me/proxy/absolute/8080",)
    assert hosting_from({"JUPYTERHUB_SERVICE_PREFIX": "/"}).prefix == "/"


def test_the_path_of_a_user_is_compared_without_escapes() -> None:
    found = hosting_from({"JUPYTERHUB_SERVICE_PREFIX": "/user/anna%20b/"})
    assert found.root_paths(8080) == ("/user/anna b/proxy/absolute/8080",)
    assert found.prefix == "/user/anna%20b/"
    assert root_path("/apps/caf%C3%A9") == "/apps/café"


def test_an_app_of_databricks_listens_to_the_network_with_a_token() -> None:
    found = hosting_from({"DATABRICKS_APP_PORT": "8000"})
    assert (found.address, found.port, found.needs_token) == ("0.0.0.0", 8000, True)


@pytest.mark.parametrize("name", ["CDSW_APP_PORT", "CDSW_READONLY_PORT", "DATABRICKS_APP_PORT"])
@pytest.mark.parametrize("value", ["", "x", "0", "65536", "-1", "８０"])
def test_a_port_that_is_none_is_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        hosting_from({name: value})
