"""The maintainer's view of the keys of a run, and the orders that commands leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.audit_task import Disagreement, Trial
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite, parse_invite
from barnraise.contract.spec import TrustSpec
from barnraise.contract.standing import Level
from barnraise.core.errors import UserError
from barnraise.core.ids import Millis
from coordinator.audits.auditors import Record
from coordinator.cli.main import main
from coordinator.peers import chosen_keys, render, shown_digits
from coordinator.rounds.invitations import FIRST_USES, invite_to, keep_invite, known_invite, make_invite
from coordinator.rounds.peers_file import PeersKeeper, peers_of, read_peers
from coordinator.rounds.standing_orders import StandingOrder, StandingOrders, leave_order
from coordinator.run_folder import ORDERS
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import opened_store, train_round

NOW = parts.NOW
PLAIN = Invite((Endpoint("host", 7451),), parts.RUN, parts.AUTHORITY.public)


def keep(store: RunStore, at: int = NOW) -> None:
    present = {parts.ADA.public: parts.presence(parts.ADA)}
    PeersKeeper(store.folder, lambda: store.snapshot, lambda: present, lambda: Millis(at), 1.0).write()


def entered(store: RunStore) -> None:
    entry = StandingOrders(store).entry(NOW)
    assert entry is not None
    store.amend(entry, NOW)


def with_work(store: RunStore) -> None:
    store.admit(parts.claim(parts.ADA, name="ada", credit=True), NOW)
    store.admit(parts.claim(parts.BEN, name="ben"), NOW)
    train_round(store, parts.ADA, parts.BEN)
    leave_order(store.folder, StandingOrder(keys=(parts.BEN.public,), level="banned", note="noise"))
    entered(store)


def test_the_list_has_standing_credit_and_why(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        with_work(store)
        found = peers_of(store.snapshot, {parts.ADA.public: parts.presence(parts.ADA)}, NOW)
        rows = {row.key: row for row in found.peers}
        ada, ben = rows[parts.ADA.public], rows[parts.BEN.public]
        assert (ada.name, ada.level, ada.rounds, ada.tokens, ada.seen) == ("ada", "trusted", 1, 64, NOW)
        assert (ben.name, ben.level, ben.seen, ben.why) == (
            "",
            "banned",
            None,
            "the maintainer's order: noise",
        )
        assert found.uses == {"1f" * 8: 2}
        shown = render(found, Millis(NOW + 5000))
        assert parts.ADA.public[:8] in shown
        assert parts.ADA.public not in shown
        assert "5 s ago" in shown
        assert "ben" not in shown.replace("banned", "")


def test_auditors_are_listed_with_what_they_did(tmp_path: Path) -> None:
    trial = Trial(key=parts.BEN.public, blob=parts.HASH_A, change=2_000_000, error=0)
    wrong = Disagreement(
        round=3, key=parts.BEN.public, reported=trial, found=trial.model_copy(update={"change": 0})
    )
    known = {
        parts.ADA.public: (Record(answered=7, missed=2), None),
        parts.BEN.public: (Record(), wrong),
    }
    with opened_store(tmp_path) as store:
        found = peers_of(store.snapshot, {}, NOW, known)
    assert {row.key: (row.answered, row.missed, bool(row.wrong)) for row in found.auditors} == {
        parts.ADA.public: (7, 2, False),
        parts.BEN.public: (0, 0, True),
    }
    shown = render(found, NOW)
    assert f"auditor {parts.ADA.public[:8]}: 7 rounds audited; it did not answer the last 2" in shown
    assert f"auditor {parts.BEN.public[:8]} is not asked any more: in round 3 it reported 0.002000" in shown


def test_keys_are_shown_with_as_many_digits_as_tell_them_apart() -> None:
    assert shown_digits(["a" * 64, "b" * 64]) == 8
    assert shown_digits(["a" * 64, "a" * 12 + "b" * 52]) == 13


def test_a_key_is_named_by_its_first_digits_or_by_its_invitation(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        with_work(store)
        keep(store)
        ada, ben = parts.ADA.public, parts.BEN.public
        assert chosen_keys(tmp_path, (ada[:6],), None) == (ada,)
        assert chosen_keys(tmp_path, (parts.STRANGER.public,), None) == (parts.STRANGER.public,)
        assert chosen_keys(tmp_path, (), "1f" * 8) == tuple(sorted((ada, ben)))
        for texts, invitation in [(("",), None), (("zz",), None), ((), None), ((), "2e" * 8)]:
            with pytest.raises(UserError):
                chosen_keys(tmp_path, texts, invitation)


def test_a_closer_is_not_banned(tmp_path: Path) -> None:
    spec = parts.run_spec()
    spec = spec.model_copy(update={"closers": spec.closers.model_copy(update={"keys": (parts.BEN.public,)})})
    with opened_store(tmp_path, spec) as store:
        store.admit(parts.claim(parts.BEN), NOW)
        keep(store)
        with pytest.raises(UserError, match="closer"):
            chosen_keys(tmp_path, (parts.BEN.public[:8],), None)
        leave_order(tmp_path, StandingOrder(keys=(parts.BEN.public,), level="banned"))
        assert StandingOrders(store).entry(NOW) is None
        assert not list((tmp_path / ORDERS).iterdir()), "there is nothing to do"


def test_orders_go_into_one_entry_and_are_removed_once_the_log_has_them(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        leave_order(tmp_path, StandingOrder(keys=(parts.ADA.public,), level="banned"))
        leave_order(tmp_path, StandingOrder(keys=(parts.BEN.public,), level="banned"))
        leave_order(tmp_path, StandingOrder(keys=(parts.ADA.public,), level="trusted"))
        leave_order(tmp_path, StandingOrder(revoked=("1f" * 8,)))
        (tmp_path / ORDERS / "0.json").write_text("{", encoding="utf-8")
        entry = StandingOrders(store).entry(NOW)
        assert entry is not None
        assert {change.key: change.level for change in entry.changes} == {
            parts.ADA.public: "trusted",
            parts.BEN.public: "banned",
        }
        assert entry.revoked == ("1f" * 8,)
        store.amend(entry, NOW)
        assert StandingOrders(store).entry(NOW) is None
        assert store.snapshot.position.standings.banned == {parts.BEN.public}


def test_the_first_invitation_stays_the_same_over_restarts(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        first = invite_to(PLAIN, store.snapshot, tmp_path, parts.AUTHORITY, NOW)
        again = invite_to(PLAIN, store.snapshot, tmp_path, parts.AUTHORITY, Millis(NOW + 1000))
        assert first == again
        assert f".{FIRST_USES}." in first.invite.invitation
        id = first.invite.invitation.partition(".")[0]
        leave_order(tmp_path, StandingOrder(revoked=(id,)))
        entered(store)
        other = invite_to(PLAIN, store.snapshot, tmp_path, parts.AUTHORITY, NOW)
        assert other.invite.invitation.partition(".")[0] != id
        later = Millis(NOW + 30 * 24 * 3600 * 1000)
        assert invite_to(PLAIN, store.snapshot, tmp_path, parts.AUTHORITY, later) != other


@pytest.mark.parametrize("mode", ["open", "allow-list"])
def test_an_invite_to_another_run_has_no_invitation(tmp_path: Path, mode: str) -> None:
    trust = TrustSpec.model_validate({"mode": mode, "vouched": (parts.ADA.public,)})
    with opened_store(tmp_path, parts.run_spec().model_copy(update={"trust": trust})) as store:
        made = invite_to(PLAIN, store.snapshot, tmp_path, parts.AUTHORITY, NOW)
        assert made.invite == PLAIN
        assert make_invite(tmp_path, known_invite(tmp_path), pytest.fail, 20, 7).invite == PLAIN


def test_only_a_key_that_is_trusted_by_name_may_audit(tmp_path: Path) -> None:
    """To lift a ban is not to vouch, in a run in which new keys are trusted."""
    key = parts.BEN.public
    with opened_store(tmp_path, parts.run_spec()) as store:

        def after(level: Level | None) -> tuple[Level, bool]:
            leave_order(tmp_path, StandingOrder(keys=(key,), level=level))
            entered(store)
            for order in (tmp_path / ORDERS).iterdir():
                order.unlink()
            return store.snapshot.standing(key).level, store.snapshot.vouches_for(key)

        assert after("banned") == ("banned", False)
        assert after(None) == ("trusted", False)
        leave_order(tmp_path, StandingOrder(keys=(key,)))
        assert StandingOrders(store).entry(NOW) is None, "it is so"
        assert after("trusted") == ("trusted", True)
        assert after(None) == ("trusted", False), "as a new key again"


def test_a_key_of_the_spec_may_audit_once_its_ban_is_lifted(tmp_path: Path) -> None:
    spec = parts.run_spec().model_copy(update={"trust": TrustSpec(vouched=(parts.BEN.public,))})
    with opened_store(tmp_path, spec) as store:
        with_work(store)
        assert not store.snapshot.vouches_for(parts.BEN.public)
        leave_order(tmp_path, StandingOrder(keys=(parts.BEN.public,)))
        entered(store)
        assert store.snapshot.vouches_for(parts.BEN.public)


def test_the_commands(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        with_work(store)
        (tmp_path / "authority.key").write_bytes(parts.AUTHORITY.seed)
        (tmp_path / "authority.key").chmod(0o600)
        assert CliRunner().invoke(main, ["invite", str(tmp_path)]).exit_code == 2, "it was never served"
        keep_invite(tmp_path, PLAIN, "invite")
        keep(store)
        made = CliRunner().invoke(main, ["invite", str(tmp_path), "--uses", "3"])
        assert made.exit_code == 0, made.output
        invite = parse_invite(made.output.split("'")[1])
        assert invite.invitation.split(".")[1] == "3"
        listed = CliRunner().invoke(main, ["invite", str(tmp_path), "--list"]).output
        id = invite.invitation.partition(".")[0]
        assert f"{id}  0 of 3 used" in listed
        for arguments in (
            ["invite", str(tmp_path), "--revoke", id],
            ["ban", str(tmp_path), parts.ADA.public[:8], "--note", "noise"],
            ["unban", str(tmp_path), parts.BEN.public],
            ["vouch", str(tmp_path), parts.STRANGER.public],
            ["peers", str(tmp_path)],
            ["peers", str(tmp_path), "--json"],
        ):
            ran = CliRunner().invoke(main, arguments)
            assert ran.exit_code == 0, ran.output
        entered(store)
        standings = store.snapshot.position.standings
        assert standings.banned == {parts.ADA.public}
        assert standings.by_key.keys() == {parts.ADA.public, parts.BEN.public, parts.STRANGER.public}
        assert standings.revoked == {id}
        assert read_peers(tmp_path).at == NOW
