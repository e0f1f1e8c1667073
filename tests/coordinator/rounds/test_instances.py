"""Two programs with one key: the one that was there first keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnraise.contract.heartbeat import MISSED
from barnraise.contract.records import UNKNOWN_INSTANCE, Activity, JoinClaim, Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from coordinator.reasons.rounds import HasOtherInstance
from coordinator.rounds.instances import Instances
from tests.support.parts import ADA, BEN, INSTANCE, NOW, RUN, presence

COPY = "0c" * 8
SILENT = 120.0
LIVE = round(1000 * SILENT)


def claim(instance: str = INSTANCE) -> JoinClaim:
    return JoinClaim(run=RUN, owner=ADA.public, instance=instance, name="ada", credit=False, at=NOW)


def beat(after: int, instance: str = INSTANCE, doing: Activity = "training") -> Presence:
    return presence(ADA, instance=instance, at=NOW + after, doing=doing)


def at(milliseconds: int) -> Millis:
    return Millis(NOW + milliseconds)


def joined() -> Instances:
    instances = Instances(SILENT)
    assert instances.in_use(claim(), at(0)) is None
    instances.admitted(claim(), at(0))
    return instances


def test_a_copy_is_refused_while_the_first_sends_heartbeats() -> None:
    instances = joined()
    instances.heard([beat(20_000)], at(20_000))
    assert instances.in_use(claim(COPY), at(23_000)) == HasOtherInstance(3.0)
    assert instances.in_use(claim(COPY), at(20_000 + LIVE)) == HasOtherInstance(LIVE / 1000)
    assert instances.in_use(claim(COPY), at(20_001 + LIVE)) is None


def test_a_restart_is_the_same_instance_at_any_time() -> None:
    instances = joined()
    instances.heard([beat(20_000)], at(20_000))
    assert instances.in_use(claim(), at(20_001)) is None


def test_a_moved_folder_takes_part_once_the_first_has_left() -> None:
    instances = joined()
    instances.heard([beat(5_000, doing="leaving")], at(5_100))
    assert instances.in_use(claim(COPY), at(5_200)) is None


def test_heartbeats_of_a_copy_do_not_take_the_key_from_the_first() -> None:
    instances = joined()
    instances.heard([beat(5_000, COPY)], at(5_100))
    instances.heard([beat(6_000, COPY, "leaving")], at(6_100))
    assert instances.in_use(claim(), at(7_000)) is None
    assert instances.in_use(claim(COPY), at(7_000)) == HasOtherInstance(7.0)


def test_a_key_is_taken_over_after_a_silence_and_the_first_is_refused_then() -> None:
    instances = joined()
    instances.admitted(claim(COPY), at(LIVE + 1))
    assert instances.in_use(claim(), at(LIVE + 3_001)) == HasOtherInstance(3.0)


def test_after_a_start_of_the_coordinator_the_journal_says_who_was_there() -> None:
    instances = Instances.restored({ADA.public: claim(), BEN.public: claim(UNKNOWN_INSTANCE)}, at(0), SILENT)
    assert instances.in_use(claim(COPY), at(1_000)) == HasOtherInstance(1.0)
    assert instances.in_use(claim(), at(1_000)) is None
    assert instances.in_use(claim(COPY), at(LIVE + 1)) is None
    other = claim(COPY).model_copy(update={"owner": BEN.public})
    assert instances.in_use(other, at(1_000)) is None


@dataclass
class Program:
    """A program that claims and then sends heartbeats, as long as it is admitted."""

    instance: str
    admitted: bool = field(default=False)


@given(st.lists(st.tuples(st.sampled_from([INSTANCE, COPY]), st.sampled_from(["claim", "beat", "crash"]))))
def test_at_any_time_at_most_one_of_two_programs_is_let_in(events: list[tuple[str, str]]) -> None:
    """Where heartbeats arrive: programs that are admitted send one every 5 s."""
    instances, programs = Instances(SILENT), {name: Program(name) for name in (INSTANCE, COPY)}
    for tick, (name, event) in enumerate(events):
        now, program = at(5_000 * tick), programs[name]
        for running in programs.values():
            if running.admitted:
                instances.heard([beat(5_000 * tick, running.instance)], now)
        if event == "claim" and instances.in_use(claim(name), now) is None:
            instances.admitted(claim(name), now)
            program.admitted = True
        elif event == "crash":
            program.admitted = False
        assert not all(each.admitted for each in programs.values())


def test_heartbeats_that_are_rare_in_a_large_swarm_count_for_longer() -> None:
    instances = Instances(SILENT)
    others = [presence(ADA).model_copy(update={"owner": f"{number:064x}"}) for number in range(1200)]
    instances.heard([presence(ADA, at=NOW), *others], at(0))
    assert instances.in_use(claim(COPY), at(MISSED * 60_000)) == HasOtherInstance(360.0)
    assert instances.in_use(claim(COPY), at(MISSED * 60_000 + 1)) is None


def test_programs_that_fell_silent_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.rounds.instances.FEW", 4)
    instances = Instances(SILENT, _enough=4)
    keys = [Identity.from_seed(number.to_bytes(32, "big")).public for number in range(100)]
    for number, key in enumerate(keys):
        instances.admitted(claim().model_copy(update={"owner": key}), at(number * LIVE // 3))
        assert len(instances) <= 8
    last = claim(COPY).model_copy(update={"owner": keys[-1]})
    assert instances.in_use(last, at(99 * LIVE // 3)) == HasOtherInstance(0.0)


def test_so_are_those_that_only_sent_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closer does not admit all that it hears."""
    monkeypatch.setattr("coordinator.rounds.instances.FEW", 4)
    instances = Instances(SILENT, _enough=4)
    for number in range(100):
        heard = beat(number * LIVE // 3).model_copy(update={"owner": f"{number:064x}"})
        instances.heard([heard], at(number * LIVE // 3))
        assert len(instances) <= 8


def test_a_heartbeat_that_was_heard_changes_nothing_and_a_leaving_one_does() -> None:
    instances = joined()
    instances.heard([beat(5_000)], at(5_000))
    instances.heard([beat(5_000)], at(9_000))
    assert instances.in_use(claim(COPY), at(9_000)) == HasOtherInstance(4.0)
    instances.heard([beat(5_000, doing="leaving")], at(9_000))
    assert instances.in_use(claim(COPY), at(9_000)) is None
