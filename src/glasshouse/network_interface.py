"""Through which network interface gloo connects the processes of several machines."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

from psutil import net_if_addrs

# What gloo reads.
VARIABLE = "GLOO_SOCKET_IFNAME"
# An address that nobody has (RFC 5737): the way to it is that to all other networks.
_ELSEWHERE = "192.0.2.1"


def choose_interface(towards: str) -> None:
    """Tell gloo which interface leads to a host, where others could not reach its own choice.

    Without being told, it takes an address that this machine's name resolves to. On Debian and
    Ubuntu that is 127.0.1.1, and elsewhere the name may not resolve at all: others would then wait
    for this machine, and it for them. A host that is a loopback address needs no other interface.
    """
    if os.environ.get(VARIABLE) or _is_loopback(towards) or _has_address_of_its_name():
        return
    for address in _own_addresses(towards):
        name = _interface_with(address)
        if name is not None:
            os.environ[VARIABLE] = name
            return


def _has_address_of_its_name() -> bool:
    """Whether the name of this machine resolves to addresses that others may reach."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        return all(_interface_with(str(place[0])) for *_, place in found)
    return False


def _own_addresses(towards: str) -> Iterator[str]:
    """Addresses of this machine, as others see them: those with which it would call them."""
    for host in (towards, _ELSEWHERE):
        # Connecting a datagram socket sends nothing.
        with suppress(OSError, UnicodeError):
            family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as caller:
                caller.connect(place)
                yield caller.getsockname()[0]
    for known in net_if_addrs().values():
        yield from (each.address for each in known if each.family == socket.AF_INET)


def _interface_with(address: str) -> str | None:
    """The interface with an address; None for one that only this machine reaches."""
    if _is_loopback(address):
        return None
    plain = address.partition("%")[0]
    return next(
        (
            name
            for name, known in net_if_addrs().items()
            if plain in [each.address.partition("%")[0] for each in known]
        ),
        None,
    )


def _is_loopback(host: str) -> bool:
    """Whether a host is named by an address that only this machine reaches."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False
