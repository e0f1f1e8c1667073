"""What `coordinator peers` shows: a file that a running coordinator keeps in its folder.

It has whole keys, which only the maintainer sees: `coordinator ban` finds a key by its first digits there.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import ValidationError

from barnraise.contract.audit_task import Disagreement
from barnraise.contract.field_types import Time
from barnraise.contract.invitation import InvitationId
from barnraise.contract.records import Presence
from barnraise.contract.standing import Level
from barnraise.core.errors import UserError
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.strict import Hex64, Strict
from barnraise.runtime.files import write_atomic
from coordinator.audits.auditors import Record
from coordinator.messages.audits import cause_message, wrong_message
from coordinator.rounds.entrance import closers_of
from coordinator.rounds.membership import public_name
from coordinator.run_folder import PEERS
from coordinator.store.history import Share
from coordinator.store.run_state import RunState


class PeerRow(Strict):
    """One key."""

    key: Hex64
    name: str
    """Empty without consent to be named."""
    level: Level
    work: int
    """Its audited contributions."""
    rounds: int
    """Contributions that were folded."""
    tokens: int
    """Tokens of these."""
    seen: Time | None
    """Of its newest heartbeat; None where it is not live."""
    invitation: str
    """The id of the one that admitted it; empty for none."""
    why: str
    """Of its standing; empty where the log does not name it."""
    closer: bool


class AuditorRow(Strict):
    """One key that audits, or asked to."""

    key: Hex64
    answered: int
    """Rounds that it audited since the coordinator started."""
    missed: int
    """Rounds in a row that it did not answer in time."""
    wrong: str
    """Why it is not asked any more; empty where it is."""


class PeersFile(Strict):
    """The file."""

    version: Literal[1] = 1
    at: Time
    peers: tuple[PeerRow, ...]
    uses: dict[InvitationId, int]
    """Keys that each invitation admitted."""
    revoked: tuple[InvitationId, ...]
    auditors: tuple[AuditorRow, ...] = ()


Known = Mapping[PublicKey, tuple[Record, Disagreement | None]]
"""As of `Auditing.known_auditors`."""


def peers_of(
    run: RunState,
    present: Mapping[PublicKey, Presence],
    now: Millis,
    auditors: Known = MappingProxyType({}),
) -> PeersFile:
    """All keys that the run knows, the most tokens first."""
    standings, shares = run.position.standings, run.history.shares(before=run.history.closed)
    keys = {*run.claims, *present, *standings.by_key, *shares}
    found = (_row(key, run, shares.get(key, Share(0, 0)), present.get(key)) for key in keys)
    rows = sorted(found, key=lambda row: (-row.tokens, row.key))
    uses = dict(Counter(run.invited.values()))
    return PeersFile(
        at=now,
        peers=tuple(rows),
        uses=uses,
        revoked=tuple(sorted(standings.revoked)),
        auditors=tuple(_auditor(key, *auditors[key]) for key in sorted(auditors)),
    )


def _auditor(key: PublicKey, record: Record, wrong: Disagreement | None) -> AuditorRow:
    why = "" if wrong is None else wrong_message(wrong)
    return AuditorRow(key=key, answered=record.answered, missed=record.missed, wrong=why)


def _row(key: PublicKey, run: RunState, share: Share, beat: Presence | None) -> PeerRow:
    standing, change = run.standing(key), run.changes.get(key)
    return PeerRow(
        key=key,
        name=public_name(run.claims.get(key)),
        level=standing.level,
        work=standing.work,
        rounds=share.rounds,
        tokens=share.tokens,
        seen=None if beat is None else beat.at,
        invitation=run.invited.get(key, ""),
        why="" if change is None else cause_message(change),
        closer=key in closers_of(run),
    )


@dataclass(frozen=True)
class PeersKeeper:
    """Writes the file while the coordinator runs."""

    folder: Path
    run: Callable[[], RunState]
    present: Callable[[], Mapping[PublicKey, Presence]]
    clock: Callable[[], Millis]
    pause: float
    """Seconds between two writes."""
    auditors: Callable[[], Known] = dict

    async def keep(self) -> None:
        """Write it again and again, until cancelled. Raises DiskFull."""
        while True:
            await asyncio.to_thread(self.write)
            await asyncio.sleep(self.pause)

    def write(self) -> None:
        """Write it now. Raises DiskFull."""
        found = peers_of(self.run(), self.present(), self.clock(), self.auditors())
        write_atomic(self.folder / PEERS, found.model_dump_json().encode(), mode=0o600)


def read_peers(folder: Path) -> PeersFile:
    """Raises UserError where no coordinator has written it yet."""
    try:
        return PeersFile.model_validate_json((folder / PEERS).read_bytes())
    except (OSError, ValidationError):
        raise UserError(
            f"{folder} has no list of volunteers yet", fix="Start the run with `coordinator serve`."
        ) from None
