"""Whose votes certified the newest entry, where entries change who certifies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from barnraise.contract.log_entries import Close, Delegation, Entry, Resume, Rollback
from barnraise.contract.tip import first_position
from barnraise.core.ids import BlobHash, PublicKey
from barnraise.core.signed import sign
from coordinator.rounds.certifiers import certifiers_of_newest
from coordinator.store.append_only import AppendOnly
from coordinator.store.history import Logged
from coordinator.store.run_state import RunState
from tests.support import parts

RUN_KEY, ADA, BEN = (PublicKey(one.public) for one in (parts.AUTHORITY, parts.ADA, parts.BEN))


def certifiers(*kinds: str) -> set[PublicKey]:
    """Of the last entry of a log. "ab": a delegation to Ada and Ben."""
    spec = parts.run_spec()
    charter = parts.charter(spec, parts.state())
    position, entries = first_position(charter), dict[BlobHash, Entry]()
    run = RunState.before_events(sign(parts.AUTHORITY, charter))
    for kind in kinds:
        same: dict[str, Any] = {
            "run": parts.RUN,
            "height": position.height,
            "round": position.round,
            "previous": position.previous,
            "certificate": None,
            "at": parts.NOW,
        }
        entry: Entry
        match kind:
            case "close":
                commits = ("AA==",)
                entry = Close(
                    epoch=position.epoch,
                    base_state=parts.HASH_A,
                    commits=commits,
                    weights=(1,),
                    reason="",
                    **same,
                )
            case "rollback":
                entry = Rollback(epoch=position.epoch, to=0, state=parts.HASH_A, note="", **same)
            case "resume":
                entry = Resume(epoch=position.epoch + 1, **same)
            case names:
                named = tuple(sorted({"a": ADA, "b": BEN}[name] for name in names))
                entry = Delegation(epoch=position.epoch, closers=named, **same)
        position, entries[entry.name] = position.after(entry), entry
        run = replace(run, position=position, log=run.log.extended(Logged(entry.name, entry.epoch)))
    assert isinstance(run.log, AppendOnly)
    return set(certifiers_of_newest(run, entries.__getitem__).keys)


def test_the_keys_before_a_change_certify_it() -> None:
    assert certifiers("close") == {RUN_KEY}
    assert certifiers("ab") == {RUN_KEY}, "it takes effect with the next round"
    assert certifiers("ab", "close") == {RUN_KEY}
    assert certifiers("ab", "close", "close") == {ADA, BEN}
    assert certifiers("ab", "rollback") == {RUN_KEY}
    assert certifiers("ab", "rollback", "close") == {ADA, BEN}
    assert certifiers("ab", "close", "a", "rollback") == {ADA, BEN}
    assert certifiers("ab", "close", "a") == {ADA, BEN}
    assert certifiers("ab", "close", "a", "close") == {ADA, BEN}
    assert certifiers("ab", "close", "a", "close", "close") == {ADA}


def test_after_a_resume_the_run_key_does() -> None:
    assert certifiers("ab", "close", "resume") == {RUN_KEY}
    assert certifiers("ab", "close", "resume", "close") == {RUN_KEY}
    assert certifiers("ab", "close", "resume", "a", "close") == {RUN_KEY}
    assert certifiers("ab", "close", "resume", "a", "close", "close") == {ADA}
