"""The table of faults, and the schedules that seeds make of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from scripts.chaos.cases import (
    CASES,
    CLOSER_CASES,
    CLOSER_PHASES,
    COORDINATOR_PHASES,
    VOLUNTEER_PHASES,
    Fault,
    Phase,
    Target,
)
from scripts.chaos.schedule import hands, schedule

ALL = (*CASES, *CLOSER_CASES)
PHASES = {
    Target.COORDINATOR: COORDINATOR_PHASES,
    Target.VOLUNTEER: VOLUNTEER_PHASES,
    Target.CLOSER: CLOSER_PHASES,
}


def test_a_schedule_has_each_case_once_and_depends_on_its_seed_alone() -> None:
    first, second = schedule(1, 3), schedule(2, 3)
    assert Counter(injection.case for injection in first) == Counter(CASES)
    assert first == schedule(1, 3)
    assert first != second
    assert {injection.volunteer for injection in first} == {0, 1, 2}


def test_hands_are_the_schedule_in_parts() -> None:
    parts = hands(7, 2, 6)
    assert [injection for part in parts for injection in part] == list(schedule(7, 2))
    assert all(len(part) == 6 for part in parts[:-1])


def test_only_a_kill_has_fellows() -> None:
    alone, together = schedule(1, 3), schedule(1, 3, fellows=2)
    assert {injection.fellows for injection in alone} == {0}
    for injection, other in zip(alone, together, strict=True):
        assert replace(injection, fellows=other.fellows) == other
        assert other.fellows == (2 if other.case.fault is Fault.KILL else 0)


@pytest.mark.parametrize(("target", "phases"), PHASES.items())
def test_each_program_is_killed_in_each_phase(target: Target, phases: tuple[Phase, ...]) -> None:
    killed = {case.phase for case in ALL if (case.fault, case.target) == (Fault.KILL, target)}
    assert killed == set(phases)


def test_each_fault_hits_a_program_and_no_case_stands_twice() -> None:
    assert {case.fault for case in CASES} == set(Fault)
    assert len(set(ALL)) == len(ALL)
    for case in ALL:
        assert (case.file is not None) == (case.fault in (Fault.DAMAGE, Fault.DELETE))
        assert case.phase in PHASES[case.target]


def test_every_phase_is_found_by_a_line_that_is_printed() -> None:
    """Lines of a real run, one for each phase."""
    lines = (
        "10:26:49 admitted ada (2e561c78)",
        "10:26:57 round 2: training: ada, ben; at most 5 s until the deadline",
        "10:26:57 accepted ben: 45 tokens",
        "10:26:58 round 3: round 2 closed: all 2 volunteers contributed",
        "10:26:58 round 2 folded: 2 contributions, 87 tokens, training loss 4.6492, state eb6792aa",
        "10:26:59 checkpoint of round 4 written",
        "10:27:24 checkpoint of round 4: held-out loss 4.1859",
        "10:28:01 resuming with round 7",
        "10:26:52 joined tiny: model",
        "round 2: training for another 2 s (0 tokens/s, 2 peers, up 0 B, down 98.2 kB, state e747217b)",
        "round 2: 3 steps are done (loss 4.585, 366 tokens/s, 2 peers, up 0 B, down 135 kB, state e747217b)",
        "round 2: our contribution is out; the round closes in at most 5 s (loss 4.585, 366 tokens/s)",
        "round 2: folding round 2 (loss 4.585, 366 tokens/s, 2 peers, up 94 kB, down 182 kB, state e747217b)",
        "round 2: the newest state is here: rebasing onto it (loss 4.585, 366 tokens/s, state e747217b)",
    )
    assert re.search(Phase.CLOSED.line, "10:26:58 round 3: round 2 closed by the votes of 2 closers")
    for phase, line in zip(Phase, lines, strict=True):
        assert [other for other in Phase if re.search(other.line, line)] == [phase], line
