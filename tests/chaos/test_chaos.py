"""A coordinator and volunteers as real processes, under faults in an order that a seed determines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.chaos.cases import CLOSER_CASES, Case, Fault, File, Phase, Target
from scripts.chaos.disks import Disks, disks
from scripts.chaos.oracle import Place
from scripts.chaos.schedule import Injection, hands, schedule
from scripts.chaos.trial import trial
from scripts.netns import Network, network, unavailable_reason

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

GATE = (
    Case(Fault.KILL, Target.COORDINATOR, Phase.CLOSED),
    Case(Fault.KILL, Target.VOLUNTEER, Phase.SENT),
    Case(Fault.KILL_DAEMON, Target.VOLUNTEER, Phase.SENT),
    Case(Fault.DAMAGE, Target.COORDINATOR, Phase.ACCEPTING, File.ACCEPTED),
)
"""Short ones: a start of a program takes most of the time."""
VOLUNTEERS = 2
HANDS = hands(1, VOLUNTEERS, 6)
WITH_CLOSERS = (Case(Fault.ABSENCE, Target.COORDINATOR, Phase.ACCEPTING), *CLOSER_CASES)


@pytest.fixture
def small_disks() -> Iterator[Disks]:
    with disks() as made:
        yield made


@pytest.fixture
def cut_network() -> Iterator[Network | None]:
    """None where this machine has no namespaces."""
    if unavailable_reason():
        yield None
        return
    with network() as made:
        yield made


def play(
    folder: Path, injections: Sequence[Injection], small: Disks, net: Network | None, closers: int = 0
) -> None:
    evaluates = any(each.case.phase is Phase.EVALUATED for each in injections)
    with trial(folder, VOLUNTEERS, small, net, closers, evaluates=evaluates) as made:
        for injection in injections:
            made.survive(injection)
        verdict = made.finish()
    assert verdict.places[Place.FOLDED] > len(injections), verdict.describe()


def test_nothing_is_lost_under_the_faults_of_one_seed(tmp_path: Path) -> None:
    play(tmp_path / "run", schedule(0, VOLUNTEERS, GATE), Disks(can_mount=False), None)


@pytest.mark.full("every fault in every phase")
@pytest.mark.parametrize("hand", range(len(HANDS)))
def test_nothing_is_lost_under_any_fault(
    tmp_path: Path, hand: int, small_disks: Disks, cut_network: Network | None
) -> None:
    play(tmp_path / "run", possible(HANDS[hand], small_disks, cut_network), small_disks, cut_network)


@pytest.mark.full("five programs, and each fault of a closer")
def test_nothing_is_lost_where_closers_fail(
    tmp_path: Path, small_disks: Disks, cut_network: Network | None
) -> None:
    injections = possible(schedule(1, VOLUNTEERS, WITH_CLOSERS), small_disks, cut_network)
    play(tmp_path / "run", injections, small_disks, cut_network, closers=2)


def possible(injections: Sequence[Injection], small: Disks, net: Network | None) -> list[Injection]:
    """Those that this machine can inject."""
    left_out = () if net is not None and small.can_mount else (Fault.CUT, Fault.FULL_DISK)
    return [each for each in injections if each.case.fault not in left_out]
