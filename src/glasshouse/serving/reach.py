"""Under which names, behind which prefix and with which token the workbench is reached."""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import unquote

from psutil import net_if_addrs

from glasshouse.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY_HOST = "*"
# Of a policy: pages of the same host, under whichever name it is reached.
_SELF = "self"
# The least length of a token that somebody chose: shorter ones can be guessed.
_TOKEN_LENGTH = 16
_NAME = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]"
# In full, port included: what a URL parser takes for the host name may be part of something else,
# such as the user name in evil.example:80@127.0.0.1.
_HOST = re.compile(rf"({_NAME})(?::[0-9]{{1,5}})?", re.IGNORECASE)
_PATTERN = re.compile(rf"(?:https?://)?(\*|(?:\*\.)?(?:{_NAME}))(?::[0-9]{{1,5}})?/?", re.I)


@dataclass(frozen=True)
class Reach:
    """How browsers reach the workbench.

    hosts: names in the Host header, in lower case and without ports; "*.example.org" stands for
    every name below it, "*" for any. frames: sources of the policy frame-ancestors, of pages that
    may show the workbench in a frame. token: what a browser must present first; None: nothing.
    root_paths: prefixes that a proxy leaves in the path. websockets: whether they get through.
    """

    hosts: tuple[str, ...] = LOOPBACK
    frames: tuple[str, ...] = ()
    token: str | None = None
    root_paths: tuple[str, ...] = ()
    websockets: bool = True

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < _TOKEN_LENGTH:
            raise UsageError(
                f"the token has {len(self.token)} characters: expected at least {_TOKEN_LENGTH}"
            )
        # A page elsewhere could let its own name resolve to this machine.
        if ANY_HOST in self.hosts and self.token is None:
            raise UsageError(
                "a workbench for any host name needs a token: leave out --no-token, or name the "
                "hosts, as in --allow-host hub.example.org or --allow-host '*.example.org'"
            )

    def answers_to(self, name: str) -> bool:
        """Whether a name, from `host_name`, is one of the hosts."""
        return bool(name) and any(_matches(name, pattern) for pattern in self.hosts)


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without the port; "" for anything else."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else ""


def host_patterns(given: Iterable[str], option: str) -> tuple[str, ...]:
    """Names as `Reach.hosts` has them, from what people write: with a port or as an address."""
    return tuple(_pattern(each, option) for each in given)


def frame_sources(given: Iterable[str]) -> tuple[str, ...]:
    """The same names as sources of a policy, at any port; "self" is the workbench's own host."""
    given = list(given)
    names = host_patterns([each for each in given if each != _SELF], "--frame-host")
    if ANY_HOST in names:
        raise UsageError("--frame-host '*' would let every page show the workbench: name the host")
    own = (f"'{_SELF}'",) if _SELF in given else ()
    return (*own, *(f"{name}:*" for name in names))


def own_names(address: str) -> tuple[str, ...]:
    """The names of this machine, for a server that listens on this address."""
    if address not in ("0.0.0.0", "::"):
        return (f"[{address}]" if ":" in address else address.lower(),)
    found = [each.address for card in net_if_addrs().values() for each in card]
    numbers = [name for each in found if (name := _number(each.partition("%")[0]))]
    return (socket.gethostname().lower(), *numbers)


def root_path(given: str) -> str:
    """A prefix as `Reach.root_paths` has it: without escapes, a slash in front, none at the end."""
    path = f"/{given.strip('/')}" if given.strip("/") else ""
    if not re.fullmatch(r"(?:/[^/?#\s\\]+)*", path) or {".", ".."} & set(path.split("/")):
        raise UsageError(f"--root-path {given!r}: expected a path, such as /apps/glasshouse")
    return unquote(path)


def _number(address: str) -> str:
    """An IP address as it is in a Host header; "" for that of a network card."""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return f"[{found}]" if found.version == 6 else str(found)


def _pattern(given: str, option: str) -> str:
    found = _PATTERN.fullmatch(given.strip())
    if found is None:
        raise UsageError(
            f"{option} {given!r}: expected a host name, such as hub.example.org, or "
            "*.example.org for every name below it"
        )
    return found[1].lower()


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*"):
        return name.endswith(pattern[1:]) and not name.startswith("[")
    return name == pattern
