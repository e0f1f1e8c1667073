"""The bytes of every kind of signed record are pinned: renaming a class must not change what is signed.

`python -m tests.core.test_golden_wire` prints the file's content; a change to it is a change of the protocol.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barnraise.consensus.state import vote_in
from barnraise.consensus.statements import Place, Prepare, Promise, Proposal, Refusal, Voted
from barnraise.consensus.wire import AskStatement, NewsStatement
from barnraise.contract.audit_figures import Figures
from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.audit_task import (
    AuditAnswer,
    AuditCall,
    AuditTask,
    GivenContribution,
    Trial,
    TrialReport,
)
from barnraise.contract.certificates import certify
from barnraise.contract.double_signing import Certified
from barnraise.contract.entry_order import EntryOrder
from barnraise.contract.fault_report import FaultReport
from barnraise.contract.invitation import Invitation
from barnraise.contract.manifest import FileEntry, HeldOut, Manifest
from barnraise.contract.records import Admission, Evaluation, JoinClaim
from barnraise.contract.run_keys import name_successor
from barnraise.contract.state import TrainState
from barnraise.contract.verdict import Verdict
from barnraise.core.ids import Round
from barnraise.core.signed import Signable, Signed, open_signed, sign
from tests.support.contacts import contact
from tests.support.parts import (
    ADA,
    AUTHORITY,
    HASH_A,
    HASH_B,
    INSTANCE,
    LAYOUT,
    NOW,
    RUN,
    charter,
    commit,
    head,
    integers,
    presence,
    run_spec,
)

GOLDEN = Path(__file__).with_name("golden_wire.json")


def one_of_each() -> dict[str, Signed[Any]]:
    genesis = TrainState(integers(1, 256, LAYOUT), {}, Round(0))
    signed_commit = sign(ADA, commit(ADA))
    manifest = Manifest(
        form="trained",
        run=RUN,
        round=2,
        state=HASH_A,
        previous=HASH_B,
        epoch=0,
        height=0,
        closers=(),
        charter=HASH_A,
        tokens=64,
        files=(FileEntry(name="model.safetensors", hash=HASH_A, size=9),),
        held_out=HeldOut(loss=2.5, tokens=1000),
    )
    evaluation = Evaluation(
        run=RUN, round=2, state=HASH_A, panel=HASH_B, owner=ADA.public, loss=2.5, tokens=1000, at=NOW
    )
    place = Place(RUN, epoch=1, height=9, round=Round(8))
    voted = Voted(ballot=2, entry=HASH_A, kind="close")
    promise = sign(ADA, Promise.at(place, 5, voted=voted))
    proposal = Proposal.at(place, 5, entry=HASH_A, kind="close", promises=(promise.text,))
    vote = vote_in(place, voted)
    order = EntryOrder(run=RUN, epoch=1, height=9, previous=HASH_A, kind="delegation", content=HASH_B)
    figures = Figures(
        round=2, blob=HASH_A, change=5, error=1, usual=-4, scale=4, alignment=3, usual_alignment=9
    )
    verdict = Verdict(
        run=RUN, key=ADA.public, claim="harm", wealth=1.0, recent=0.0, figures=(figures,), at=NOW
    )
    result = AuditResult(
        key=ADA.public,
        blob=HASH_A,
        finding="tried",
        audited=True,
        change=5,
        error=1,
        norm=1.5,
        alignment=500_000,
        taken=9,
    )
    report = AuditReport(
        run=RUN, round=2, base_state=HASH_B, owner=AUTHORITY.public, results=(result,), at=NOW
    )
    trial = Trial(key=ADA.public, blob=HASH_A, change=5, error=1)
    task = AuditTask(
        round=2,
        base_state=HASH_B,
        contributions=(GivenContribution(key=ADA.public, blob=HASH_A, size=9, taken=8),),
        samples=((0, 7),),
    )
    trials = TrialReport(round=2, base_state=HASH_B, trials=(trial,))
    return {
        "audit-answer": sign(AUTHORITY, AuditAnswer(run=RUN, owner=ADA.public, task=task, at=NOW)),
        "audit-call": sign(ADA, AuditCall(run=RUN, owner=ADA.public, report=trials, at=NOW)),
        "audit-report": sign(AUTHORITY, report),
        "verdict": sign(AUTHORITY, verdict),
        "ask": sign(ADA, AskStatement(run=RUN)),
        "news": sign(ADA, NewsStatement(newest=Certified(vote=vote, certificate=certify([ADA], vote)))),
        "prepare": sign(ADA, Prepare.at(place, 5)),
        "promise": promise,
        "proposal": sign(ADA, proposal),
        "refusal": sign(ADA, Refusal.at(place, 4, promised=5)),
        "vote": sign(ADA, vote),
        "admission": sign(AUTHORITY, Admission(run=RUN, peer=ADA.public, expires=NOW + 1000)),
        "charter": sign(AUTHORITY, charter(run_spec(), genesis)),
        "commit": signed_commit,
        "evaluation": sign(ADA, evaluation),
        "fault-report": sign(
            ADA, FaultReport(run=RUN, owner=ADA.public, device="CPU", problem="no loss", at=NOW)
        ),
        "contact": contact(),
        "entry-order": sign(AUTHORITY, order),
        "head": sign(AUTHORITY, head()),
        "invitation": sign(AUTHORITY, Invitation(run=RUN, id="1f" * 8, uses=20, expires=NOW)),
        "join-claim": sign(
            ADA, JoinClaim(run=RUN, owner=ADA.public, instance=INSTANCE, name="ada", credit=True, at=NOW)
        ),
        "manifest": sign(AUTHORITY, manifest),
        "presence": sign(ADA, presence()),
        "successor": sign(AUTHORITY, name_successor(RUN, 1, AUTHORITY, ADA).statement),
    }


KINDS = tuple(one_of_each())


@pytest.mark.parametrize("kind", KINDS)
def test_signing_a_record_gives_the_pinned_bytes(kind: str) -> None:
    assert one_of_each()[kind].wire.hex() == json.loads(GOLDEN.read_text())[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_pinned_bytes_are_opened(kind: str) -> None:
    expected = one_of_each()[kind]
    wire = bytes.fromhex(json.loads(GOLDEN.read_text())[kind])
    assert open_signed(type(expected.value), wire, signer=expected.signer) == expected


def test_every_kind_of_record_is_pinned_and_has_its_own_domain() -> None:
    kinds = _signed_kinds(Signable)
    assert {type(signed.value) for signed in one_of_each().values()} == set(kinds)
    assert len({kind.DOMAIN for kind in kinds}) == len(kinds)


def _signed_kinds(base: type[Signable]) -> list[type[Signable]]:
    """The classes below `base` that are signed; others are bases of them."""
    below = [kind for kind in base.__subclasses__() if kind.__module__.startswith("barnraise.")]
    return [base] if not below else [kind for each in below for kind in _signed_kinds(each)]


if __name__ == "__main__":
    print(json.dumps({kind: signed.wire.hex() for kind, signed in one_of_each().items()}, indent=1))
