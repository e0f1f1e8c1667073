"""The invite: one line with the addresses of a run's coordinator and the run's key.

barnraise://HOST:PORT[,HOST:PORT…]/RUN?key=<64 hex digits>[&node=<64 hex digits>@HOST:PORT…][&invitation=…]

A node is of the run's peer-to-peer network, with its key and port there. Where no host of the invite answers,
as after the coordinator moved, its nodes are asked for the coordinator's newest addresses. An invitation
(`barnraise.contract.invitation`) admits the holder to a run that is not open to everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qs

from barnraise.contract.endpoints import MAX_HOSTS, Endpoint, parse_endpoint
from barnraise.contract.invitation import TEXT_PATTERN
from barnraise.core.errors import InviteError
from barnraise.core.ids import HASH_PATTERN, RUN_PATTERN, PublicKey, RunId

T = TypeVar("T")

SCHEME = "barnraise"
MAX_NODES = 8
MAX_INVITE = 8192
"""Longest invite in characters: eight hosts and eight nodes of the longest names, the run and the key."""


@dataclass(frozen=True)
class InviteNode:
    """A node of the swarm; `str()` is KEY@HOST:PORT."""

    key: PublicKey
    endpoint: Endpoint
    """Its libp2p port, TCP and UDP."""

    def __str__(self) -> str:
        return f"{self.key}@{self.endpoint}"


@dataclass(frozen=True)
class Invite:
    """The parts of an invite; `str()` is the line that people share."""

    endpoints: tuple[Endpoint, ...]
    """Where the coordinator's gRPC service may be, at least one: each is tried in turn."""
    run: RunId
    key: PublicKey
    """The run authority's public key, which all signed records of the run are checked against."""
    nodes: tuple[InviteNode, ...] = ()
    """Nodes that may know where the coordinator is now."""
    invitation: str = ""
    """Empty for none."""

    @property
    def address(self) -> str:
        """HOST:PORT, separated by commas where there are several."""
        return ",".join(map(str, self.endpoints))

    def __str__(self) -> str:
        nodes = "".join(f"&node={node}" for node in self.nodes)
        invitation = f"&invitation={self.invitation}" if self.invitation else ""
        return f"{SCHEME}://{self.address}/{self.run}?key={self.key}{nodes}{invitation}"


def parse_invite(text: str) -> Invite:
    """Raises InviteError, which says what part is wrong."""
    stripped = text.strip()
    if len(stripped) > MAX_INVITE:
        raise _bad(text, f"it is longer than {MAX_INVITE} characters")
    scheme, _, rest = stripped.partition("://")
    if scheme.lower() != SCHEME:
        raise _bad(text, f"it does not begin with {SCHEME}://")
    authority, _, tail = rest.partition("/")
    path, _, query = tail.partition("?")
    endpoints = _endpoints(text, authority.partition("?")[0])
    run = path.rstrip("/")
    if not re.fullmatch(RUN_PATTERN, run):
        raise _bad(text, "it has no run name after the port")
    fields = parse_qs(query)
    keys = fields.get("key", [])
    if len(keys) != 1 or not re.fullmatch(HASH_PATTERN, keys[0]):
        raise _bad(text, "its key is not 64 hex digits; was the end cut off?")
    nodes, invitation = _nodes(text, fields.get("node", [])), _invitation(text, fields.get("invitation", []))
    return Invite(endpoints, RunId(run), PublicKey(keys[0]), nodes, invitation)


def parse_node(text: str) -> InviteNode:
    """KEY@HOST:PORT. Raises ValueError."""
    key, at, endpoint = text.partition("@")
    if not at or not re.fullmatch(HASH_PATTERN, key):
        raise ValueError("it has no KEY@ of 64 hex digits before HOST:PORT")
    return InviteNode(PublicKey(key), parse_endpoint(endpoint))


def _nodes(text: str, parts: Sequence[str]) -> tuple[InviteNode, ...]:
    if len(parts) > MAX_NODES:
        raise _bad(text, f"it has {len(parts)} nodes, at most {MAX_NODES} are allowed")
    return tuple(dict.fromkeys(_parsed(text, part, parse_node) for part in parts))


def _invitation(text: str, parts: Sequence[str]) -> str:
    if not parts:
        return ""
    if len(parts) > 1 or not re.fullmatch(TEXT_PATTERN, parts[0]):
        raise _bad(text, "its invitation is damaged; was the end cut off?")
    return parts[0]


def _endpoints(text: str, authority: str) -> tuple[Endpoint, ...]:
    parts = authority.split(",")
    if len(parts) > MAX_HOSTS:
        raise _bad(text, f"it has {len(parts)} hosts, at most {MAX_HOSTS} are allowed")
    return tuple(dict.fromkeys(_parsed(text, part, parse_endpoint) for part in parts))


def _parsed(text: str, part: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(part)
    except ValueError as error:
        raise _bad(text, f"{part[:100]!r}: {error}") from None


def _bad(text: str, why: str) -> InviteError:
    return InviteError(
        f"this is not an invite: {text[:100]!r}: {why}",
        fix=f"Copy the whole line that `coordinator serve` printed, in quotes: '{SCHEME}://HOST:PORT/RUN?key=…'",
    )
