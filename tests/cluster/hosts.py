"""Hosts of a network on this machine: namespaces, each with its own address, folders and processes.

Nothing but the code and the environment of Python is shared: /tmp, /dev/shm and the home folder of
a host are its own.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HOME = "/tmp/home"
_UNSHARED = ("unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child")
_TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname")
# There is no name server. The host lives for as long as the process that has made it: cat then
# finds the end of its input.
_SETUP = """
set -e
mount -t proc proc /proc; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /dev/shm
hostname {name}; mkdir -p {home}; ip link set lo up
echo '{names}' > /tmp/hosts; mount --bind /tmp/hosts /etc/hosts
: > /tmp/resolv; mount --bind /tmp/resolv /etc/resolv.conf
echo ready; exec cat
"""


@dataclass(frozen=True)
class Host:
    """A host: its name, its address, and the process that keeps its namespaces."""

    name: str
    address: str
    process: int

    def words(self, command: Sequence[str], **variables: str) -> list[str]:
        """A command in the host, as it is started from outside."""
        namespaces = ("--mount", "--uts", "--net", "--pid", f"--wdns={HOME}")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {"PATH": path, "HOME": HOME, "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"} | variables
        return [
            "nsenter", "-t", str(self.process), *namespaces, "--", "env", "-i",
            *(f"{name}={value}" for name, value in given.items()), *command,
        ]  # fmt: skip

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a command in the host; what it prints can be read."""
        return subprocess.Popen(
            self.words(command, **variables),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *command: str, seconds: float = 300, **variables: str) -> tuple[int, str]:
        """The exit code of a command in the host, and what it prints."""
        process = self.start(*command, **variables)
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
            return -signal.SIGKILL, text
        return process.returncode, text

    def folder(self, name: str = "") -> Path:
        """A folder of its home, as it is seen from outside."""
        return Path(f"/proc/{self.process}/root{HOME}", name)

    def cut_off(self) -> None:
        """Take the host off the network, as a pulled cable does: nobody is told."""
        _sh("ip", "link", "set", _wire(self), "down")


@contextmanager
def hosts(names: Sequence[str]) -> Iterator[Mapping[str, Host]]:
    """Hosts on a network of their own, known to each other by name; skips without namespaces."""
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, _TOOLS)):
        pytest.skip("network namespaces need Linux, root and iproute2")
    addresses = {name: f"10.77.{os.getpid() % 250}.{n}" for n, name in enumerate(names, 1)}
    bridge = f"gb{os.getpid()}"
    with ExitStack() as stack:
        try:
            _sh("ip", "link", "add", bridge, "type", "bridge")
        except subprocess.CalledProcessError:
            pytest.skip("no network can be made here")
        stack.callback(_sh, "ip", "link", "del", bridge)
        _sh("ip", "link", "set", bridge, "up")
        yield {name: stack.enter_context(_host(name, addresses, bridge)) for name in names}


@contextmanager
def _host(name: str, addresses: Mapping[str, str], bridge: str) -> Iterator[Host]:
    names = "\n".join(f"{a} {n}" for n, a in {**addresses, "localhost": "127.0.0.1"}.items())
    setup = _SETUP.format(name=name, home=HOME, names=names)
    keeper = subprocess.Popen(
        [*_UNSHARED, "bash", "-c", setup], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert keeper.stdout is not None and keeper.stdout.readline() == "ready\n"
        children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text()
        host = Host(name, addresses[name], int(children))
        wire, inside = _wire(host), ("nsenter", "-t", str(host.process), "--net", "ip")
        _sh("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0",
            "netns", str(host.process))  # fmt: skip
        _sh("ip", "link", "set", wire, "master", bridge, "up")
        _sh(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _sh(*inside, "link", "set", "eth0", "up")
        yield host
    finally:
        # With the first process of its namespace, all others end.
        keeper.kill()
        keeper.communicate()


def _wire(host: Host) -> str:
    return f"gw{host.process}"


def _sh(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
