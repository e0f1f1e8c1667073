"""Where the DHT has each record (the table in `barnraise.contract.records`)."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.heartbeat import part_of
from barnraise.contract.records import Commit, Head, Presence, Record
from barnraise.core.ids import PublicKey, Round, RunId


@dataclass(frozen=True)
class DhtKey:
    """The DHT key and subkey of a record."""

    key: str
    subkey: str | None


def peers_key(run: RunId, parts: int, part: int) -> str:
    return f"{run}/peers/{parts}/{part}"


def commits_key(run: RunId, round: Round) -> str:
    return f"{run}/commits/{round}"


def head_key(run: RunId) -> str:
    return f"{run}/head"


def closer_heads_key(run: RunId) -> str:
    return f"{run}/heads"


def dht_key_of(record: Record, closer: PublicKey | None = None) -> DhtKey:
    """closer: the signer of a head that is not of the run authority."""
    run = RunId(record.run)
    match record:
        case Presence():
            part = part_of(PublicKey(record.owner), record.parts)
            return DhtKey(peers_key(run, record.parts, part), record.owner)
        case Commit():
            return DhtKey(commits_key(run, Round(record.round)), record.owner)
        case Head():
            return DhtKey(closer_heads_key(run), closer) if closer else DhtKey(head_key(run), None)
