"""The peer's messages: one row for each form of each sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.divergence import LossJumped
from barnraise.contract.evaluation_quorum import NoQuorum, Quorum, QuorumOutcome, QuorumPending
from barnraise.contract.manifest import HeldOut
from barnraise.core.ids import PublicKey, Round, RunId, StateHash
from barnraise.fold.replay import Cause, Difference
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from peer import evaluate
from peer.archive import events as archive
from peer.download import events as download
from peer.messages.download import download_message
from peer.messages.evaluate import evaluation_message
from peer.messages.training import training_message
from peer.messages.verify import difference_message, proof_message, verify_message
from peer.messages.volunteer import parting_message, volunteer_message
from peer.training.device import AppleGpuChosen, BrokenGpu, CpuChosen, CudaChosen, DeviceReason
from peer.training.memory_fit import Fit, MemoryNeed
from peer.verify import events as verify
from peer.verify.evaluations import (
    EvaluationsDiffer,
    LossByCoordinator,
    LossByEvaluators,
    NoHeldOutLoss,
    OtherEvaluation,
    UnreadableEvaluations,
)
from peer.verify.proof import FromAdapterSeed, FromBaseModel, FromCheckpoint, Proved
from peer.volunteer import reasons as volunteer
from peer.volunteer.durations import Advice, ExchangeShare, StepCount, StepsPerRound
from peer.volunteer.own_losses import OwnLossNotLowered
from peer.volunteer.reasons import Meanwhile

VOLUNTEER: list[tuple[volunteer.ActionReason | Advice | volunteer.Notice, str]] = [
    (
        volunteer.StepSkipped("the gradient is no number", 1, 0),
        "the gradient is no number: skipped that step",
    ),
    (
        volunteer.StepSkipped("the gradient is no number", 5, 1),
        "the gradient is no number: skipped that step, 5 so far; training starts again from the run's state",
    ),
    (
        OwnLossNotLowered(3, 5),
        "3 of your last 5 contributions did not lower the loss of your own samples: check this machine's"
        " memory, try `--device cpu`, and compare `peer --version` with others",
    ),
    (
        volunteer.StepSkipped("the gradient is no number", 10, 2, Round(7)),
        "the gradient is no number: skipped that step, 10 so far; the run's state is to blame, not this"
        " machine or the learning rate: training goes on from the last good one, of round 7",
    ),
    (
        volunteer.StepSkipped("the gradient is no number", 10, 2),
        "the gradient is no number: skipped that step, 10 so far; training starts again from the run's state,"
        " 2 times in a row: check this machine's memory",
    ),
    (Paused(60.2, asleep=False), "this program was stopped for 60 s"),
    (Paused(3600.0, asleep=True), "this machine slept for 3600 s"),
    (
        LossJumped(3.4, 2.4),
        "the run's training diverges: the training loss is 3.40 and was 2.40."
        " No checkpoint is promoted: write to the maintainer",
    ),
    (ClockSet(600.2), "this machine's clock was set forward by 600 s; the run's stays as it is"),
    (ClockSet(-600.2), "this machine's clock was set back by 600 s; the run's stays as it is"),
    (volunteer.Starting(), "starting"),
    (volunteer.TimeToTrain(49.6), "training for another 50 s"),
    (
        volunteer.StepEndsAfterClose(300.0),
        "a step takes 300 s: it ends after this round's close and counts in the next one",
    ),
    (volunteer.StepOutlastsRound(), "this step outlasts the round, which does not wait for it"),
    (
        volunteer.StepIsLate(90.0),
        "this step takes 90 s: it counts in this round if no volunteer is faster, else in the next one",
    ),
    (volunteer.OutOfTurn(), "training; other volunteers contribute to this round"),
    (volunteer.LeavingWithWork(), "leaving: sending what was trained first"),
    (volunteer.StepsDone(4), "4 steps are done"),
    (volunteer.SendingStartsNow(40.0), "sending takes 40 s: it has to start now"),
    (volunteer.NoTimeForStep(1.14), "no time for another step of 1.1 s"),
    (volunteer.TokenTargetReached(), "the swarm reached its tokens"),
    (volunteer.TimeIsOver(), "the round's time is over"),
    (volunteer.StateDiffers(), "our state is not the run's: starting again from the newest checkpoint"),
    (volunteer.FarBehind(3, Round(2)), "3 rounds behind: taking the checkpoint of round 2"),
    (volunteer.RoundClosed(Round(2)), "folding round 2"),
    (volunteer.NewerState(), "the newest state is here: rebasing onto it"),
    (volunteer.JustResumed(), "finding out where the run is after a pause"),
    (
        volunteer.CoordinatorBehind(Round(3), Round(4), None),
        "the coordinator is at round 3, we are at 4: it is catching up",
    ),
    (volunteer.NothingTrained(Round(3), None), "round 3 is closing; we train in the next one"),
    (
        volunteer.NothingTrained(Round(3), 21.0),
        "round 3 is closing; we train in the next one; the last head of the coordinator is 21 s old",
    ),
    (volunteer.TooLate(), "too late for this round: what we trained waits for the next one"),
    (volunteer.StepsDoneOutOfTurn(), "the steps of this round are done, and a later round sends them"),
    (
        volunteer.AwayForLong(21.0, 0),
        "the coordinator is away (its last head is 21 s old): more samples in one gradient would not help",
    ),
    (
        volunteer.AwayForLong(21.0, 30),
        "the coordinator is away (its last head is 21 s old), and 30 rounds' worth is trained: more would not"
        " help. It is sent after the coordinator's return; Ctrl-C saves it",
    ),
    (
        volunteer.CoordinatorAway(600.0, 2.04, 30),
        "the coordinator is away (its last head is 10 min old): training goes on for up to 30 rounds' worth,"
        " 2.0 so far, and is sent after its return",
    ),
    (volunteer.ContributionOut(70.0, None), "our contribution is out; the round closes in at most 70 s"),
    (
        volunteer.ContributionLost(Meanwhile.TRAIN),
        "our contribution was damaged on this disk and is given up; training goes on",
    ),
    (
        volunteer.ContributionOut(70.0, 21.0, Meanwhile.TRAIN, 10.0),
        "our contribution is out; the round closes in at most 70 s;"
        " the last head of the coordinator is 21 s old; training goes on: exchanges take 10 s",
    ),
    (
        volunteer.ContributionOut(70.0, None, Meanwhile.TRAINED_AHEAD),
        "our contribution is out; the round closes in at most 70 s; a round's worth is trained ahead",
    ),
    (volunteer.FoldingRounds(), "folding the rounds since ours"),
    (volunteer.FoldingRounds(Meanwhile.TRAIN), "folding the rounds since ours; training goes on"),
    (volunteer.AskedToStop(), "you asked to stop"),
    (volunteer.RunOver(1), "the run is over after 1 round"),
    (
        StepsPerRound(StepCount.FIT, 50.0, 8, 2.0, 100.0),
        "a step of 8 samples takes 2.0 s here: about 50 in a round of 100 s",
    ),
    (
        StepsPerRound(StepCount.FEW, 2.0, 8, 50.0, 100.0),
        "a step of 8 samples takes 50.0 s here: about 2 in a round of 100 s."
        " That is few, and each step counts",
    ),
    (
        StepsPerRound(StepCount.MANY, 1000.0, 8, 0.1, 100.0),
        "a step of 8 samples takes 0.1 s here: about 1000 in a round of 100 s."
        " That is many: shorter rounds keep the replicas closer together",
    ),
    (
        StepsPerRound(StepCount.NONE, 0.5, 8, 200.0, 100.0),
        "a step of 8 samples takes 200.0 s here, longer than a round of 100 s:"
        " it counts a round later, and no volunteer waits for it",
    ),
    (
        ExchangeShare(20.0, 100.0, overlaps=True, by_run=False),
        "the exchange of a round took 20.0 s, 20% of its training, more than 10%: training goes on meanwhile",
    ),
    (
        ExchangeShare(5.0, 100.0, overlaps=False, by_run=False),
        "the exchange of a round took 5.0 s, 5% of its training: training waits for it",
    ),
    (
        ExchangeShare(5.0, 100.0, overlaps=True, by_run=True),
        "the exchange of a round took 5.0 s, 5% of its training;"
        " training goes on meanwhile, as the run spec says",
    ),
]


@pytest.mark.parametrize(("reason", "message"), VOLUNTEER, ids=[type(r).__name__ for r, _ in VOLUNTEER])
def test_volunteer_messages(reason: volunteer.ActionReason | Advice, message: str) -> None:
    assert volunteer_message(reason) == message


def test_what_the_user_of_a_volunteer_that_ends_can_do_next() -> None:
    assert parting_message(volunteer.AskedToStop()) == "Come back with the same command."
    assert parting_message(volunteer.RunOver(9)) == (
        "The run is over after 9 rounds. Get what it trained by `peer download`, with the same invite."
    )


TRAINING: list[tuple[DeviceReason | Fit, str]] = [
    (CudaChosen(bf16=True), "a CUDA GPU, bf16"),
    (CudaChosen(bf16=False), "a CUDA GPU, fp32, since it has no fast bf16"),
    (AppleGpuChosen(), "an Apple GPU, fp32"),
    (
        CpuChosen(bf16=False, speedup=1.14, requested=False),
        "no GPU; fp32, as bf16 runs at 1.1x the speed of fp32 here",
    ),
    (
        CpuChosen(False, 1.0, False, BrokenGpu("NVIDIA X", "no kernel image")),
        "NVIDIA X is listed and cannot compute (no kernel image);"
        " fp32, as bf16 runs at 1.0x the speed of fp32 here",
    ),
    (CpuChosen(bf16=True, speedup=2.0, requested=True), "bf16, as bf16 runs at 2.0x the speed of fp32 here"),
    (
        Fit(1, "fp32", False, MemoryNeed(3_200_000_000, 99 * 10**9, "machine")),
        "1 sample at once, the frozen weights in fp32: about 3.2 GB, and 99.0 GB are free here",
    ),
    (
        Fit(4, None, True, MemoryNeed(3_200_000_000, 99 * 10**9, "gpu")),
        "4 samples at once, activation checkpointing to save memory: about 3.2 GB, and 99.0 GB are free on"
        " the GPU",
    ),
]


@pytest.mark.parametrize(("reason", "message"), TRAINING)
def test_training_messages(reason: DeviceReason | Fit, message: str) -> None:
    assert training_message(reason) == message


DOWNLOAD: list[tuple[download.DownloadEvent, str]] = [
    (download.WholeModelTrained(), "this run trains all parameters: the trained form is the whole model"),
    (download.DownloadStarts(RunId("barn"), 3, False, 5, 2_000_000), "round 3 of barn: 5 files, 2 MB"),
    (
        download.DownloadStarts(RunId("barn"), 3, True, 5, 2_000_000),
        "mean of states up to round 3 of barn: 5 files, 2 MB",
    ),
    (
        download.FormNotPublished("gguf", 3, False, Path("out")),
        "round 3 is not published as gguf: converting the checkpoint in out",
    ),
    (download.ConversionStarts("merged"), "converting to the merged form"),
    (
        archive.SourceStandsBy("a", archive.NoRanges()),
        "not using a for now: it cannot start in the middle of a file",
    ),
    (
        archive.SourceStandsBy("a", archive.FarSlower(1e5, 1.2e7)),
        "not using a for now: it delivers 100 kB/s, another source 12,000 kB/s",
    ),
    (
        archive.BaseFromRun(archive.OnlyInRun("mine"), 6, 2_000_000),
        "the base model 'mine' is a file or folder of the maintainer: fetching it from the run"
        " (6 files, 2 MB). It is kept for all runs with this model.",
    ),
    (
        archive.BaseFromRun(archive.SourceUnavailable("owner/name", "no route"), 1, 2_000_000),
        "the base model cannot be used from owner/name (no route): fetching it from the run"
        " (1 file, 2 MB). It is kept for all runs with this model.",
    ),
    (archive.OtherProgramFetches(), "another program fetches this base model: waiting for it"),
    (archive.CachedBaseDamaged("it differs"), "it differs: fetching it again"),
    (archive.SourceSilent("a"), "a sends nothing; another source continues"),
    (archive.SourceRetried("a", archive.RequestFailed("a is gone")), "a is gone; trying again"),
    (archive.SourceDropped("a", "a is gone"), "dropped a: a is gone"),
    (
        archive.FileMismatched("model.bin"),
        "model.bin does not match its hash: fetching it from one source at a time",
    ),
]


@pytest.mark.parametrize(("event", "message"), DOWNLOAD)
def test_download_messages(event: download.DownloadEvent, message: str) -> None:
    assert download_message(event) == message


EVALUATION: list[tuple[evaluate.EvaluationEvent | download.DownloadEvent, str]] = [
    (evaluate.NothingToEvaluate(), "every checkpoint has its held-out loss"),
    (evaluate.EvaluationStarts(3), "evaluating round 3"),
    (evaluate.LossMeasured(3, 2.25), "round 3 has a held-out loss of 2.2500 here"),
    (evaluate.CoordinatorAnswered("counted"), "counted"),
    (evaluate.EvaluationFailed("no answer", 30.0), "no answer; trying again in 30 s"),
    (download.ConversionStarts("merged"), "converting to the merged form"),
]


@pytest.mark.parametrize(("event", "message"), EVALUATION)
def test_evaluation_messages(event: evaluate.EvaluationEvent | download.DownloadEvent, message: str) -> None:
    assert evaluation_message(event) == message


VERIFY: list[tuple[verify.VerifyEvent | verify.ReplayProgress, str]] = [
    (
        verify.CheckingFiles(RunId("barn"), 4, StateHash("ab" * 32), 5, 2_000_000),
        "round 4 of barn, state abababab: checking 5 files, 2 MB",
    ),
    (verify.ContributionsDropped(2), "the contributions of the rounds before 2 are no longer kept"),
    (
        verify.StartFromCheckpoint(2),
        "starting from the checkpoint of round 2, which the run's key signed: the rounds before it are not"
        " proved",
    ),
    (
        verify.CloserLied(PublicKey("ab" * 32), "two-votes", 3),
        "proved: the closer abababab… lied in round 3 (two-votes). The log counts where a"
        " majority of closers certified it; the run's maintainer should name another closer",
    ),
    (verify.InitializingAdapter(7), "initializing the adapter from the run's seed, 7"),
    (verify.ReadingBaseModel("tiny"), "reading the base model tiny"),
    (verify.ReplayProgress(3, 7, 12, 1.5), "replayed 3 of 7 rounds: 12 contributions, 2.0 rounds/s"),
]


@pytest.mark.parametrize(("event", "message"), VERIFY)
def test_verify_messages(event: verify.VerifyEvent | verify.ReplayProgress, message: str) -> None:
    assert verify_message(event) == message


PROVED = Proved(
    run=RunId("barn"), key=PublicKey("cd" * 32), round=4, state=StateHash("ab" * 32),
    start=FromAdapterSeed(7), rounds=4, contributions=8, volunteers=2, tokens=512, files=5, seconds=2.0,
    held_out=LossByEvaluators(2.25, 2, 3), training=100.0,
)  # fmt: skip


def test_the_message_of_a_proof_from_the_first_round() -> None:
    assert proof_message(PROVED).splitlines() == [
        f"proved: round 4 of barn, state {PROVED.state}, is the fold of 8 contributions by 2 volunteers in"
        " rounds 0 to 3 onto the adapter initialized from the run's seed 7. The checkpoint's 5 files hold"
        " exactly that state.",
        "trusted: the run's key cdcdcdcd….",
        "held-out loss 2.2500: signed by 2 of 3 vouched volunteers.",
        "4 rounds in 2.0 s, 200 × as fast as they were trained",
    ]


def test_the_message_of_a_proof_from_a_checkpoint() -> None:
    late = replace(
        PROVED, start=FromCheckpoint(3), rounds=1, contributions=1, volunteers=1, training=None,
        held_out=LossByCoordinator(2.25),
    )  # fmt: skip
    assert proof_message(late).splitlines() == [
        f"proved: round 4 of barn, state {PROVED.state}, is the fold of 1 contribution by 1 volunteer in"
        " rounds 3 to 3 onto the checkpoint of round 3. The checkpoint's 5 files hold exactly that state.",
        "trusted: the run's key cdcdcdcd…, and its signature on the checkpoint of round 3: the rounds before"
        " it are not proved.",
        "held-out loss 2.2500: by the run's coordinator only.",
        "1 round in 2.0 s",
    ]


def test_the_message_of_a_proof_of_the_first_state() -> None:
    first = replace(PROVED, start=FromBaseModel("tiny"), round=0, rounds=0, training=None)
    assert "is the base model tiny. The" in proof_message(first)
    assert "held-out" not in proof_message(replace(first, held_out=NoHeldOutLoss()))


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (Cause.SOURCE, "Try another source"),
        (Cause.ABSENT, "Run the command again"),
        (Cause.COORDINATOR, "Do not use this checkpoint."),
        (Cause.BASE, "Give the right model with --base"),
    ],
)
def test_difference_messages(cause: Cause, advice: str) -> None:
    difference = Difference("entry", "log/0/000001.entry", "an entry", "junk", cause)
    problem, expected, found, fix = difference_message(difference).splitlines()
    assert problem == "not proved: the entry differs: log/0/000001.entry"
    assert expected == "  expected: an entry"
    assert found == "  found:    junk"
    assert fix.startswith("  → ")
    assert advice in fix


LOSS = HeldOut(loss=2.25, tokens=8)
ADA, BEN = PublicKey("ab" * 32), PublicKey("cd" * 32)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (UnreadableEvaluations("not JSON"), "not JSON"),
        (OtherEvaluation(2, ADA, BEN), f"one of round 2 by {ADA}, signed by {BEN}"),
        (Quorum(LOSS, (ADA, BEN), (), 3), "evaluations that lead to loss=2.25 tokens=8"),
        (QuorumPending(1, 3), "evaluations that 1 more of 3 evaluators must agree with"),
        (
            NoQuorum(2, 2, ((ADA, 2.25), (BEN, 3.0))),
            "no held-out loss that 2 of 2 evaluators agree on: 2.2500 by abababab, 3.0000 by cdcdcdcd",
        ),
    ],
)
def test_messages_of_evaluations_that_differ(
    found: UnreadableEvaluations | OtherEvaluation | QuorumOutcome, message: str
) -> None:
    lines = difference_message(EvaluationsDiffer("evaluations.json", LOSS, found)).splitlines()
    assert lines[:3] == [
        "not proved: the evaluations differ: evaluations.json",
        "  expected: evaluations of this state that lead to loss=2.25 tokens=8",
        f"  found:    {message}",
    ]
    assert "the coordinator is at fault" in lines[3]
