"""A simulated internet in network namespaces: public hosts, homes behind a NAT, rate-limited links.

It needs root on Linux, and the programs ip, tc and iptables. Only the namespaces created here are changed.
They are removed at the end; those of a program that was killed are removed by the next one.

    host --20 Mbit/s-- the bridge --20 Mbit/s-- router | NAT | home
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PREFIX = "barnraise-"
NETWORK = "11.7.0"
"""The public hosts' network. libp2p treats documentation and benchmark addresses as unroutable, so these are
ordinary ones; nothing leaves the namespaces."""
HOME = "192.168.1"
"""The private network, the same in every home."""
TOOLS = ("ip", "tc", "iptables")
QUEUE_MS = 200
"""The queue of a link, in milliseconds, before it drops packets."""


class NetworkFailed(Exception):
    """A namespace could not be created."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that a host's link has carried, all headers included."""

    up: int
    down: int

    def since(self, before: Traffic) -> Traffic:
        return Traffic(self.up - before.up, self.down - before.down)


@dataclass(frozen=True)
class Host:
    """A machine of the simulated internet."""

    namespace: str
    address: str
    """Its own address; in a home a private one."""

    def command(self, *program: str) -> list[str]:
        """The command that runs `program` on this host."""
        return ["ip", "netns", "exec", self.namespace, *program]

    def traffic(self) -> Traffic:
        """The counters of its link."""
        words = _run(*self.command("cat", "/proc/net/dev")).partition("eth0:")[2].split()
        return Traffic(up=int(words[8]), down=int(words[0]))


def cut(host: Host) -> None:
    """Lose all packets of a public host, in both directions."""
    for chain, side in _SIDES:
        _run_in(host.namespace, "iptables", "-I", chain, side, "eth0", "-j", "DROP")


def mend(host: Host) -> None:
    """Undo `cut`."""
    for chain, side in _SIDES:
        _run_in(host.namespace, "iptables", "-D", chain, side, "eth0", "-j", "DROP")


_SIDES = (("INPUT", "-i"), ("OUTPUT", "-o"))


@dataclass
class Network:
    """The bridge in the middle, and the links to it. Created by `network`."""

    _made: list[str] = field(default_factory=list)
    _links: int = 0

    def public(self, name: str, mbit: float | None = None) -> Host:
        """A host with a public address; `mbit` limits its link in each direction."""
        host = Host(self._namespace(name), f"{NETWORK}.{self._links + 1}")
        self._attach(host.namespace, "eth0", host.address, mbit)
        return host

    def home(self, name: str, mbit: float | None = None) -> Host:
        """A host behind a router with a NAT that admits only replies to connections from inside."""
        router, host = self._namespace(f"{name}-router"), Host(self._namespace(name), f"{HOME}.2")
        self._attach(router, "wan", f"{NETWORK}.{self._links + 1}", mbit)
        _link(host.namespace, "eth0", router, "lan")
        _up(router, "lan", f"{HOME}.1")
        _up(host.namespace, "eth0", host.address)
        _run_in(host.namespace, "ip", "route", "add", "default", "via", f"{HOME}.1")
        _run_in(router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        _run_in(router, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "wan", "-j", "MASQUERADE")
        for chain in ("INPUT", "FORWARD"):
            _run_in(router, "iptables", "-A", chain, "-i", "wan", "-m", "conntrack", "--ctstate",
                "ESTABLISHED,RELATED", "-j", "ACCEPT")  # fmt: skip
            _run_in(router, "iptables", "-A", chain, "-i", "wan", "-j", "DROP")
        return host

    def _attach(self, namespace: str, device: str, address: str, mbit: float | None) -> None:
        self._links += 1
        port = f"port{self._links}"
        _link(namespace, device, self._middle, port)
        _run_in(self._middle, "ip", "link", "set", port, "master", "bridge", "up")
        _up(namespace, device, address)
        if mbit is not None:
            _shape(namespace, device, mbit)
            _shape(self._middle, port, mbit)

    def _namespace(self, name: str) -> str:
        namespace = f"{PREFIX}{os.getpid()}-{name}"
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        _run_in(namespace, "ip", "link", "set", "lo", "up")
        return namespace

    def start(self) -> None:
        """Create the bridge."""
        _remove_stale()
        self._middle = self._namespace("middle")
        _run_in(self._middle, "ip", "link", "add", "bridge", "type", "bridge")
        _run_in(self._middle, "ip", "link", "set", "bridge", "up")

    def stop(self) -> None:
        """Kill the programs that still run in the namespaces, and remove them."""
        for namespace in self._made:
            _remove(namespace)
        self._made.clear()


@contextmanager
def network() -> Iterator[Network]:
    """An empty network, removed with everything in it at the end. Raises NetworkFailed."""
    made = Network()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def unavailable_reason() -> str:
    """Why this machine cannot create the namespaces; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    try:
        with network() as made:
            made.home("probe", mbit=1)
    except NetworkFailed as error:
        return f"this kernel does not allow it: {error}"
    return ""


def _link(namespace: str, device: str, other: str, port: str) -> None:
    _run("ip", "link", "add", device, "netns", namespace, "type", "veth", "peer", port, "netns", other)


def _up(namespace: str, device: str, address: str) -> None:
    _run_in(namespace, "ip", "address", "add", f"{address}/24", "dev", device)
    _run_in(namespace, "ip", "link", "set", device, "up")


def _shape(namespace: str, device: str, mbit: float) -> None:
    _run_in(namespace, "tc", "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{mbit:g}mbit",
        "burst", "32kb", "latency", f"{QUEUE_MS}ms")  # fmt: skip


def _remove_stale() -> None:
    for line in _run("ip", "netns", "list").splitlines():
        namespace = line.split()[0]
        owner = namespace.removeprefix(PREFIX).partition("-")[0]
        if namespace.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            _remove(namespace)


def _remove(namespace: str) -> None:
    for process in _run("ip", "netns", "pids", namespace).split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    _run("ip", "netns", "delete", namespace)


def _run_in(namespace: str, *command: str) -> str:
    return _run("ip", "netns", "exec", namespace, *command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkFailed(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout
