"""Who may use a service: API key, host names, and origins of web pages."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from glasshouse.serving.service.problems import Problem

# Health checks of an orchestrator carry no API key.
OPEN_PATHS = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})


@dataclass(frozen=True)
class AccessRules:
    """Which requests are accepted: those with the API key, if there is one, for an allowed host.

    hosts: accepted values of the Host header, without the port; empty accepts any. They stop DNS
    rebinding, where a page elsewhere lets its own host name resolve to this machine. origins: those
    whose pages may read responses (CORS), or "*" for any. may_control: whether models may be loaded
    and unloaded.
    """

    api_key: str | None = None
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    may_control: bool = True


class AccessChecks:
    """Checks requests by the rules."""

    def __init__(self, rules: AccessRules) -> None:
        self._hosts = rules.hosts
        self._key = None if rules.api_key is None else _digest(rules.api_key)

    def require(self, path: str, headers: Headers) -> None:
        """Raise Problem 401 or 421 for a request that is not accepted."""
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            raise Problem(
                421, "wrong-host",
                f"Host not allowed: expected {', '.join(sorted(self._hosts))}. Add names with "
                "--allow-host.",
            )  # fmt: skip
        if self._key is None or path in OPEN_PATHS:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        # Digests have one length, so that the time of the comparison reveals nothing of the key.
        if not hmac.compare_digest(_digest(given), self._key):
            raise Problem(
                401, "unauthorized",
                "Missing or invalid API key: send it as X-API-Key or as a bearer token.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def require_control(rules: AccessRules, headers: Headers) -> None:
    """Raise Problem 403 for a request that may not load or unload models."""
    if not rules.may_control:
        raise Problem(
            403, "forbidden",
            "Models can only be loaded and unloaded from this machine, or with an API key.",
        )  # fmt: skip
    # A page of any site can send such a request to this machine, and need not read the answer.
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in rules.origins:
        raise Problem(
            403, "forbidden",
            "Models cannot be loaded and unloaded by pages of this origin; --allow-origin, with "
            "its name, allows it.",
        )  # fmt: skip


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
