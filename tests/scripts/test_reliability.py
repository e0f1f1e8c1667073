"""docs/RELIABILITY.md: each test that it names exists, each sentence that it quotes is printed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from barnraise.contract.divergence import LossRises
from barnraise.contract.log_entries import Resume
from barnraise.core.ids import BlobHash
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from coordinator.messages.recovery import recovery_message
from coordinator.messages.rounds import claim_refusal, refusal_message, wait_message
from coordinator.reasons import recovery
from coordinator.reasons.rounds import HasOtherInstance, RunOver, WrongRound
from coordinator.rounds.joint_closing import LogIsVoid
from peer.messages.training import training_message
from peer.messages.volunteer import volunteer_message
from peer.training.device import BrokenGpu, CpuChosen
from peer.unreachable import ConnectionRefused, CoordinatorUnreachable
from peer.volunteer import reasons as volunteer
from tests.support import parts

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "RELIABILITY.md").read_text(encoding="utf-8").partition("## The faults")[2]
ROWS = [line.split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
IDS = [row[0].strip("| ") for row in ROWS]

ENTRY = recovery.EntryFile(BlobHash(parts.HASH_A), epoch=0, height=7)
ASIDE = Path("damaged/20261129T112914Z-6aaab597")
CONTRIBUTION = recovery.ContributionFile(parts.commit(parts.ADA, round=7))
AWAY = volunteer.CoordinatorAway(24.0, 1.2, 30)
RESUME = Resume(
    run=parts.RUN, epoch=1, height=7, round=7, previous=parts.HASH_A, certificate=None, at=parts.NOW
)
REFUSED = CoordinatorUnreachable("203.0.113.5:7450", ConnectionRefused()).problem
RENDERED = {
    recovery_message(recovery.FileLost(ENTRY, ASIDE, recovery.TakenFromArchive())),
    recovery_message(recovery.FileLost(ENTRY, ASIDE, recovery.TakenFromJournal())),
    recovery_message(recovery.FileLost(CONTRIBUTION, None, recovery.Unrecovered())),
    recovery_message(recovery.StateTaken(7)),
    recovery_message(recovery.AwaitingVolunteers((ENTRY,))),
    recovery_message(recovery.FirstStateRecomputed()),
    refusal_message(WrongRound(6, 7)),
    wait_message(RunOver(500)),
    claim_refusal(HasOtherInstance(9.0)).problem,
    volunteer_message(AWAY),
    volunteer_message(volunteer.ContributionLost(volunteer.Meanwhile.HOLD)),
    volunteer_message(volunteer.StateDiffers()),
    volunteer_message(volunteer.TwoHistories()),
    volunteer_message(volunteer.RunHalted()),
    volunteer_message(volunteer.StepSkipped("the gradient is not finite", 1, 0)),
    volunteer_message(Paused(3600.0, asleep=True)),
    volunteer_message(ClockSet(-600.0)),
    volunteer_message(LossRises(3.2, 8, 2.1)),
    training_message(CpuChosen(False, 1.0, False, BrokenGpu("NVIDIA T4", "no kernel image"))),
    LogIsVoid(RESUME).problem,
    f"{REFUSED}. Trying again in 4 s; Ctrl-C ends",
}
"""What `coordinator.messages` and `peer.messages` make of the reasons that the table quotes."""


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_row_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 4
    named = re.findall(r"`([^`]+)::(\w+)`", row[2])
    assert named, "no test holds this promise"
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {name}"


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_a_row_quotes_what_is_printed(row: list[str]) -> None:
    """By a renderer; or, for errors and log lines that have no reason, by the programs' source."""
    sentence = row[3].strip("| ")
    if sentence == "–":
        return
    assert sentence.startswith('"'), sentence
    said = sentence.strip('"')
    assert said in RENDERED or any(template.fullmatch(said) for template in templates()), said


@cache
def templates() -> tuple[re.Pattern[str], ...]:
    """The strings of both programs that have several words; any text may be in a placeholder."""
    sources = [path for folder in ("coordinator", "peer", "proto") for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sources if "messages" not in path.parts]
    return tuple(pattern for tree in trees for node in ast.walk(tree) for pattern in _pattern(node))


def _pattern(node: ast.AST) -> Iterator[re.Pattern[str]]:
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
        text = "".join(map(str, parts))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = re.sub(r"%(s|d|\.\df)", "\0", node.value)
    else:
        return
    if len(text.replace("\0", "").split()) >= 3:  # else placeholders alone would match anything
        yield re.compile(re.escape(text).replace("\0", ".+"))
