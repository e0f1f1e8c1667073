"""The status of a run as text."""

from __future__ import annotations

import pytest

from barnraise.contract.status import FaultStatus, PeerStatus, RunStatus
from coordinator.status import render


def rendered(name: str, problem: str = "", not_awaited: str = "") -> str:
    peer = PeerStatus(
        name=name,
        key="b" * 64,
        round=3,
        state="a" * 64,
        tokens=1,
        tokens_per_second=1.0,
        seen_seconds_ago=1.0,
        not_awaited=not_awaited,
    )
    status = RunStatus(
        run="barn",
        round=3,
        phase="train",
        waiting_for="",
        state="a" * 64,
        state_round=3,
        tokens=1,
        loss=None,
        checkpoint_round=0,
        divergence="",
        evaluation="",
        length="round 3 is number 4 of 9 planned",
        peers=(peer,),
        faults=(FaultStatus(key="b" * 64, device="cpu", problem=problem, seconds_ago=60.0),),
    )
    return render(status)


@pytest.mark.parametrize("text", ["ada", "[red]ada", "[/]", "[link=x]ada[/link]"])
def test_what_volunteers_write_is_shown_as_it_is(text: str) -> None:
    assert f"│ {text} " in rendered(text)
    assert f"1 minutes ago: {text}" in rendered("ada", text)


def test_what_volunteers_write_does_not_control_the_terminal() -> None:
    assert "\x1b" not in rendered("\x1b[31mada", "\x1b]0;x\x07")


def test_it_says_how_far_the_run_is() -> None:
    assert "round 3 is number 4 of 9 planned" in rendered("ada")


def test_it_says_for_whom_no_close_waits() -> None:
    assert "no close waits for ada: it missed a round" in rendered("ada", not_awaited="it missed a round")
    assert "no close waits" not in rendered("ada")
