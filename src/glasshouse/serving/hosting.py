"""Where the workbench runs: what hosted notebooks say about it in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from glasshouse.errors import UsageError
from glasshouse.serving.reach import ANY_HOST, host_patterns

# Every app of Databricks has a name below this one.
_DATABRICKS = "*.databricksapps.com"
_SELF = "'self'"


@dataclass(frozen=True)
class Hosting:
    """What the host of this session wants; whatever it does not mention is as on any machine.

    address: to listen on. port: None leaves the choice to Glasshouse. read_only_port: the port
    whose visitors may look only. hosts: further names that it is reached under. prefix: its
    address on a notebook server, which leads to ports by PREFIX/proxy/PORT. frames: pages that may
    show it in a frame. needs_token: others on that machine reach the port too.
    """

    address: str = "127.0.0.1"
    port: int | None = None
    read_only_port: int | None = None
    hosts: tuple[str, ...] = ()
    prefix: str | None = None
    frames: tuple[str, ...] = ()
    needs_token: bool = False

    def usual_port(self, *, read_only: bool) -> int | None:
        """The port that the host expects the workbench on."""
        if read_only or self.port is None:
            return self.read_only_port or self.port
        return self.port

    def root_paths(self, port: int) -> tuple[str, ...]:
        """The prefixes that the notebook server may leave in the path, without escapes."""
        return () if self.prefix is None else (unquote(f"{self.prefix}proxy/absolute/{port}"),)


def hosting_from(environment: Mapping[str, str]) -> Hosting:
    """The host of this session, by its variables. Raises UsageError for a port that is none."""
    if "DATABRICKS_APP_PORT" in environment:
        # Databricks forwards to this address from another machine.
        port = _port(environment, "DATABRICKS_APP_PORT")
        return Hosting("0.0.0.0", port, hosts=(_DATABRICKS,), needs_token=True)
    if "CDSW_APP_PORT" in environment or "CDSW_READONLY_PORT" in environment:
        domain = environment.get("CDSW_DOMAIN")
        return Hosting(
            port=_port(environment, "CDSW_APP_PORT"),
            read_only_port=_port(environment, "CDSW_READONLY_PORT"),
            hosts=host_patterns([f"*.{domain}"], "CDSW_DOMAIN") if domain else (),
        )
    if "JUPYTERHUB_SERVICE_PREFIX" in environment:
        # A hub does not say under which name people see it, and its users may share a machine.
        prefix = f"/{environment['JUPYTERHUB_SERVICE_PREFIX'].strip('/')}/".replace("//", "/")
        return Hosting(hosts=(ANY_HOST,), prefix=prefix, frames=(_SELF,), needs_token=True)
    return Hosting()


def _port(environment: Mapping[str, str], name: str) -> int | None:
    given = environment.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdecimal() and 0 < int(given) < 65536):
        raise UsageError(f"{name} is {given!r}: expected a port, 1 to 65535")
    return int(given)
