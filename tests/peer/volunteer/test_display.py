"""What a volunteer's user sees: a line for each new round and each new reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.messages.volunteer import volunteer_message
from peer.volunteer.display import StatusLines, VolunteerStatus
from peer.volunteer.reasons import ContributionOut, Meanwhile, TimeToTrain

STATUS = VolunteerStatus(
    run="barn",
    round=3,
    doing=TimeToTrain(50.0),
    loss=2.5,
    tokens=64,
    tokens_per_second=10.0,
    peers=2,
    up=1000,
    down=2000,
    state="abcd",
)


def lines(capsys: pytest.CaptureFixture[str], *shown: VolunteerStatus) -> list[str]:
    display = StatusLines(volunteer_message)
    for status in shown:
        display.show(status)
    return capsys.readouterr().out.splitlines()


def test_a_line_has_all_of_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, STATUS) == [
        "round 3: training for another 50 s (loss 2.500, 10 tokens/s, 2 peers, "
        "up 1 kB, down 2 kB, state abcd)"
    ]
    (line,) = lines(capsys, replace(STATUS, loss=0.0))
    assert "(10 tokens/s" in line


@pytest.mark.parametrize(
    ("after", "news"),
    [
        (replace(STATUS, doing=TimeToTrain(49.0), tokens=128, loss=2.4), False),
        (replace(STATUS, round=4), True),
        (replace(STATUS, doing=ContributionOut(70.0, None)), True),
    ],
)
def test_a_line_is_printed_only_for_news(
    after: VolunteerStatus, news: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(lines(capsys, STATUS, after)) == 1 + news


@pytest.mark.parametrize(
    ("after", "news"),
    [
        (ContributionOut(60.0, None), False),
        (ContributionOut(60.0, 21.0), True),
        (ContributionOut(60.0, None, Meanwhile.TRAIN), True),
    ],
)
def test_a_silent_coordinator_and_training_on_are_news(
    after: ContributionOut, news: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = replace(STATUS, doing=ContributionOut(70.0, None))
    assert len(lines(capsys, before, replace(before, doing=after))) == 1 + news
