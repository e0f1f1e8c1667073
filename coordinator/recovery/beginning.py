"""Whether a start of `coordinator serve` begins a run, continues one, or recovers one. Pure.

A key that has signed a log never begins another one by itself: volunteers could not distinguish the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.run_keys import Successors, keys_of
from barnraise.core.errors import StateError, UserError
from barnraise.core.ids import PublicKey


@dataclass(frozen=True)
class FolderFacts:
    """What a coordinator's folder has of a run."""

    folder: Path
    key: PublicKey | None
    """Of the run's private key that is there. A run that was never chartered has none yet."""
    journal: PublicKey | None
    """The key that signed the charter which the journal records; None where it records none."""
    archive: PublicKey | None
    """The key that signed the charter in the archive; None where there is no archive."""
    restored: bool
    """The journal is from a backup, or a recovery was interrupted: rounds may be missing at its end."""
    successors: Successors = ()
    """Of `journal`, by the log that the journal records."""
    generation: int = 0
    """Of the run key that is in force there."""

    @property
    def run_keys(self) -> tuple[PublicKey, ...]:
        """By generation, where the journal records a run."""
        return () if self.journal is None else keys_of(self.journal, self.successors)

    @property
    def run_key(self) -> PublicKey | None:
        """The one that is in force by the journal."""
        return None if self.journal is None else self.run_keys[self.generation]


@dataclass(frozen=True)
class Asked:
    """The options of `coordinator serve`."""

    recover_from: str | None = None
    new_run: bool = False


@dataclass(frozen=True)
class NewRun:
    """A run begins, with a new key."""

    set_aside: bool
    """Something of an earlier run is in the folder: it is moved, and nothing of it deleted."""


@dataclass(frozen=True)
class Continue:
    """The journal is complete as far as the folder shows."""


@dataclass(frozen=True)
class Recover:
    """Take the longest log that others hold, and begin an epoch behind it."""

    source: str | None
    """An archive or an invite; None: volunteers alone."""


Beginning = NewRun | Continue | Recover


def decide_beginning(facts: FolderFacts, asked: Asked) -> Beginning:
    """Raises UserError, StateError."""
    if asked.new_run and asked.recover_from is not None:
        raise UserError("--new-run and --recover-from exclude each other", fix="Give one of them.")
    if facts.key is None:
        return _without_key(facts, asked)
    if facts.journal is not None and facts.key not in facts.run_keys[facts.generation :]:
        raise _wrong_key(facts, facts.run_keys[facts.generation], facts.key in facts.run_keys)
    if asked.recover_from is not None:
        return Recover(asked.recover_from)
    if facts.journal is None:
        if asked.new_run:
            return NewRun(set_aside=True)
        raise _no_journal(facts)
    return Recover(None) if facts.restored else Continue()


def _without_key(facts: FolderFacts, asked: Asked) -> Beginning:
    signer = facts.run_key or facts.archive
    if signer is None and asked.recover_from is None:
        return NewRun(set_aside=False)
    if asked.new_run:
        return NewRun(set_aside=True)
    raise _key_lost(facts, signer)


def _key_lost(facts: FolderFacts, signer: PublicKey | None) -> StateError:
    whose = "" if signer is None else f", which begins with {signer[:8]},"
    return StateError(
        f"{facts.folder} lacks authority.key: without the run's key{whose} nobody can close its rounds",
        fix="Put authority.key back from where you keep a copy, or let its successor take its place with"
        " `coordinator key rotate` (docs/RUN_KEY.md). If there is neither, the run has ended: its checkpoints"
        " stay valid, and `coordinator serve --new-run` begins a new run, for which volunteers"
        " need the new invite.",
    )


def _wrong_key(facts: FolderFacts, signer: PublicKey, replaced: bool) -> StateError:
    if replaced:
        return StateError(
            f"authority.key in {facts.folder} is a run key that a successor replaced: nobody follows it",
            fix=f"Put the newest key of the run back, which begins with {signer[:8]}.",
        )
    return StateError(
        f"authority.key in {facts.folder} is not the key of the run that the journal records: that one begins"
        f" with {signer[:8]}",
        fix="Put the key of this run back (its successor: `coordinator key rotate`), or give the other run"
        " another folder with --data-dir.",
    )


def _no_journal(facts: FolderFacts) -> StateError:
    near = f", such as {facts.folder / 'archive'}" if facts.archive == facts.key else ""
    return StateError(
        f"{facts.folder} has the key of a run and not its journal: a second history under the same key would"
        " split the run",
        fix=f"`coordinator serve --recover-from SOURCE` continues the run from an archive{near}, a mirror's"
        " URL, or the run's invite (its volunteers). A backup: `coordinator restore`."
        " `coordinator serve --new-run` begins a new run with a new key and moves this one aside.",
    )
