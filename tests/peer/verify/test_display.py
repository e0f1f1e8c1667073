"""The display of `peer verify`, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from barnraise.runtime.plain_console import PlainConsole
from peer.verify.display import LINES, VerifyLines, verify_display
from peer.verify.events import ReadingBaseModel, ReplayProgress, VerifyEvent


def message(event: VerifyEvent | ReplayProgress) -> str:
    return "reading [here]" if isinstance(event, ReadingBaseModel) else str(event)


def test_a_terminal_shows_a_bar_and_the_events() -> None:
    shown = io.StringIO()
    console = PlainConsole(file=shown, force_terminal=True, width=100)
    with verify_display(console, message, lambda progress: f"{progress.contributions} folded") as display:
        display.report(ReadingBaseModel("here"))
        display.replayed(ReplayProgress(3, 7, 12, 1.5))
    assert "reading [here]" in shown.getvalue()
    assert "3/7" in shown.getvalue()
    assert "12 folded" in shown.getvalue()


def test_lines_about_a_long_log_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    display = VerifyLines(message)
    for done in range(1, 1001):
        display.replayed(ReplayProgress(done, 1000, done, 1.0))
    assert len(capsys.readouterr().err.splitlines()) == LINES


def test_a_log_longer_than_the_checkpoint_s_round_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest of round 0 whose height includes a close: its replay finds the difference."""
    VerifyLines(message).replayed(ReplayProgress(1, 0, 1, 1.0))
    assert "rounds=1" in capsys.readouterr().err
