"""Names, prefixes and tokens as people write them."""

import socket

import pytest

from glasshouse.errors import UsageError
from glasshouse.serving.reach import Reach, frame_sources, host_patterns, own_names, root_path


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("hub.example", "hub.example"),
        ("HUB.Example:8443", "hub.example"),
        ("https://hub.example/", "hub.example"),
        ("*.cdsw.example", "*.cdsw.example"),
        ("[::1]:80", "[::1]"),
        ("*", "*"),
    ],
)
def test_a_host_is_understood_as_people_write_it(given: str, name: str) -> None:
    assert host_patterns([given], "--allow-host") == (name,)


@pytest.mark.parametrize(
    "given", ["", "a b", "hub.*", "*hub.example", "**.example", "hub.example/x", "ftp://hub", "*."]
)
def test_what_is_no_host_is_refused_with_the_option(given: str) -> None:
    with pytest.raises(UsageError, match="--allow-host"):
        host_patterns([given], "--allow-host")


def test_framing_is_for_named_hosts_only() -> None:
    assert frame_sources(["colab.example"]) == ("colab.example:*",)
    with pytest.raises(UsageError, match="name the host"):
        frame_sources(["*"])


@pytest.mark.parametrize(
    ("given", "path"), [("", ""), ("/", ""), ("apps/x", "/apps/x"), ("/apps/x/", "/apps/x")]
)
def test_a_prefix_has_one_form(given: str, path: str) -> None:
    assert root_path(given) == path


@pytest.mark.parametrize("given", ["/a/../b", "/a?b", "/a#b", "/a b", "/a//b", "https://x/y"])
def test_what_is_no_prefix_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--root-path"):
        root_path(given)


def test_any_host_needs_a_token_and_a_token_cannot_be_short() -> None:
    with pytest.raises(UsageError, match="--allow-host"):
        Reach(hosts=("*",))
    with pytest.raises(UsageError, match="at least 16"):
        Reach(token="short")


def test_a_server_for_the_network_answers_to_this_machine() -> None:
    reach = Reach(hosts=own_names("0.0.0.0"))
    assert reach.answers_to(socket.gethostname().lower())
    assert reach.answers_to("127.0.0.1")
    assert not reach.answers_to("evil.example")
    assert own_names("::1") == ("[::1]",)
