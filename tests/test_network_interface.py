"""Which interface gloo is told to use, by what the name of the machine resolves to."""

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse import network_interface
from glasshouse.network_interface import VARIABLE, choose_interface

INTERFACES = {"lo": ["127.0.0.1"], "eth0": ["10.0.0.7"], "ib0": ["fe80::1%ib0", "10.8.0.7"]}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the interfaces above, whose name is known only where a test says so."""
    monkeypatch.setenv(VARIABLE, "")  # so that whatever is set is taken back
    known = {
        name: [SimpleNamespace(family=family_of(each), address=each) for each in addresses]
        for name, addresses in INTERFACES.items()
    }
    monkeypatch.setattr(network_interface, "net_if_addrs", lambda: known)
    resolve(monkeypatch, {})


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def resolve(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> None:
    """Let names resolve to addresses, and a call to any of these come from the same one."""

    def found(name: str, *_: object, type: Any) -> list[Any]:
        if name not in names:
            raise socket.gaierror("Name or service not known")
        return [(family_of(each), type, 0, "", (each, 9)) for each in names[name]]

    class Caller:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Caller":
            return self

        def __exit__(self, *_: object) -> None: ...
        def connect(self, place: tuple[str, int]) -> None:
            self.place = place

        def getsockname(self) -> tuple[str, int]:
            return self.place

    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "socket", Caller)


@pytest.mark.parametrize("own", [["10.0.0.7"], ["10.8.0.7", "fe80::1"]])
def test_a_name_with_an_address_of_its_own_is_left_to_gloo(
    monkeypatch: pytest.MonkeyPatch, own: list[str]
) -> None:
    resolve(monkeypatch, {"here": own, "node0": ["10.8.0.7"]})
    choose_interface("node0")
    assert os.environ[VARIABLE] == ""


def test_the_interface_that_the_user_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mine0")
    resolve(monkeypatch, {"here": ["127.0.1.1"], "node0": ["10.8.0.7"]})
    choose_interface("node0")
    assert os.environ[VARIABLE] == "mine0"


@pytest.mark.parametrize(
    ("names", "interface"),
    [
        ({"here": ["127.0.1.1"], "node0": ["10.8.0.7"]}, "ib0"),
        ({"node0": ["10.8.0.7"]}, "ib0"),
        ({"node0": ["fe80::1"]}, "ib0"),
        # An address of an earlier lease, or one that only a router has.
        ({"here": ["203.0.113.9"], "node0": ["10.8.0.7"]}, "ib0"),
        ({"here": ["10.0.0.7", "127.0.1.1"], "node0": ["10.8.0.7"]}, "ib0"),
        # The first machine, whose own name is that of the meeting point.
        ({"here": ["127.0.1.1"], "node0": ["127.0.1.1"], "192.0.2.1": ["10.8.0.7"]}, "ib0"),
        ({"here": ["::1", "127.0.1.1"], "node0": ["127.0.1.1"]}, "eth0"),
        ({}, "eth0"),
    ],
)
def test_where_a_name_leads_nowhere_gloo_is_told_what_leads_to_others(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]], interface: str
) -> None:
    resolve(monkeypatch, names)
    choose_interface("node0")
    assert os.environ[VARIABLE] == interface


def test_a_machine_without_a_network_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_interface, "net_if_addrs", dict)
    choose_interface("node0")
    assert os.environ[VARIABLE] == ""


@pytest.mark.parametrize("towards", ["127.0.0.1", "::1"])
def test_processes_that_meet_on_this_machine_need_no_other(
    monkeypatch: pytest.MonkeyPatch, towards: str
) -> None:
    resolve(monkeypatch, {"here": ["127.0.1.1"], towards: [towards]})
    choose_interface(towards)
    assert os.environ[VARIABLE] == ""


def test_a_name_that_cannot_be_looked_up_is_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, "kept")
    monkeypatch.setattr(socket, "gethostname", lambda: "a" * 64)
    assert not network_interface._has_address_of_its_name()
    assert all(isinstance(each, str) for each in network_interface._own_addresses("no..dots"))
