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
    """Tell gloo which interface leads to a host, where its own choice could not be reached.

    Without being told, it takes the address of this machine's name. Debian and Ubuntu let that be
    127.0.1.1, and elsewhere the name may be unknown: others would then wait for this machine, and
    it for them.
    """
    if VARIABLE in os.environ or _has_address_of_its_name():
        return
    for address in _own_addresses(towards):
        name = _interface_with(address)
        if name is not None:
            os.environ[VARIABLE] = name
            return


def _has_address_of_its_name() -> bool:
    """Whether the name of this machine stands for an address that others may reach."""
    with suppress(OSError):
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        return not any(ip_address(place[0]).is_loopback for *_, place in found)
    return False


def _own_addresses(towards: str) -> Iterator[str]:
    """Addresses of this machine, as others see them: those with which it would call them."""
    for host in (towards, _ELSEWHERE):
        # Connecting a datagram socket sends nothing.
        with suppress(OSError):
            family, kind, _, _, place = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind) as caller:
                caller.connect(place)
                yield caller.getsockname()[0]
    for known in net_if_addrs().values():
        yield from (each.address for each in known if each.family == socket.AF_INET)


def _interface_with(address: str) -> str | None:
    """The interface with an address; None for one that only this machine reaches."""
    if ip_address(address).is_loopback:
        return None
    return next(
        (
            name
            for name, known in net_if_addrs().items()
            if address in [each.address.partition("%")[0] for each in known]
        ),
        None,
    )
