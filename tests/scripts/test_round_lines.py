"""What `scripts/bench round` and `uplink` read in a volunteer's log is what `peer.messages` writes there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from barnraise.core.ids import Round
from peer.messages.volunteer import volunteer_message
from peer.volunteer import reasons
from peer.volunteer.display import StatusLines, VolunteerStatus
from peer.volunteer.reasons import ActionReason, Meanwhile
from scripts.benchmarks.round import Line, Tail, trains
from scripts.stage import Program

TRAINING: list[ActionReason] = [
    reasons.TimeToTrain(9.0),
    reasons.StepEndsAfterClose(30.0),
    reasons.StepOutlastsRound(),
    reasons.StepIsLate(12.0),
    reasons.OutOfTurn(),
    reasons.ContributionOut(9.0, None, Meanwhile.TRAIN),
    reasons.ContributionOut(9.0, 60.0, Meanwhile.TRAIN, 4.0),
    reasons.FoldingRounds(Meanwhile.TRAIN, 4.0),
]
NOT_TRAINING: list[ActionReason] = [
    reasons.Starting(),
    reasons.LeavingWithWork(),
    reasons.StepsDone(3),
    reasons.SendingStartsNow(5.0),
    reasons.NoTimeForStep(1.0),
    reasons.TokenTargetReached(),
    reasons.TimeIsOver(),
    reasons.StateDiffers(),
    reasons.FarBehind(9, Round(5)),
    reasons.RoundClosed(Round(3)),
    reasons.NewerState(),
    reasons.CoordinatorBehind(Round(2), Round(3), None),
    reasons.NothingTrained(Round(2), 60.0),
    reasons.TooLate(),
    reasons.StepsDoneOutOfTurn(),
    reasons.AwayForLong(21.0, 30),
    reasons.ContributionOut(9.0, None),
    reasons.ContributionOut(9.0, None, Meanwhile.TRAINED_AHEAD),
    reasons.FoldingRounds(),
    reasons.FoldingRounds(Meanwhile.TRAINED_AHEAD),
    reasons.AskedToStop(),
    reasons.RunOver(4),
]


@pytest.mark.parametrize("reason", TRAINING, ids=repr)
def test_a_volunteer_that_trains_is_seen_to_train(reason: ActionReason) -> None:
    assert trains(Line(0.0, 1, volunteer_message(reason), 0, 0))


@pytest.mark.parametrize("reason", NOT_TRAINING, ids=repr)
def test_a_volunteer_that_does_not_train_is_seen_to_be_idle(reason: ActionReason) -> None:
    assert not trains(Line(0.0, 1, volunteer_message(reason), 0, 0))


def test_the_lines_of_a_volunteer_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = VolunteerStatus(
        "tiny", 7, reasons.TimeToTrain(9.0), 1.5, 100, 20.0, 3, 1_500_000, 12, "0123456789ab"
    )
    with StatusLines(volunteer_message) as lines:
        lines.show(status)
    log = tmp_path / "ada.log"
    log.write_text(f"another line\n{capsys.readouterr().out}round 8: a line that is not complete")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tail = Tail(Program("ada", process, log, tmp_path))
    tail.read()
    (line,) = tail.lines
    assert (line.round, line.doing, line.up, line.down) == (7, volunteer_message(status.doing), 1_500_000, 12)
