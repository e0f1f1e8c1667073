"""A close that the run's key, or a majority of its closers, certified, and that no honest coordinator makes.

Volunteers, closers and `peer verify` apply the coordinator's own rules to it, by `check_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from barnraise.contract.close_rules import fold_order
from barnraise.contract.log_entries import Close
from barnraise.contract.records import Commit
from barnraise.contract.sample_ranges import SampleRange
from barnraise.contract.spec import RoundSpec
from barnraise.contract.standing import Standing, standings_of
from barnraise.contract.tip import genesis_tip
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import weigh_commits
from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.fold.log import Link, check_step
from tests.support import parts

LENGTH = 16
SPEC = parts.run_spec().model_copy(
    update={
        "round": RoundSpec(min_contributions=2, max_contributions=3),
        "data": parts.run_spec().data.model_copy(update={"sequence_length": LENGTH}),
    }
)
CHARTER = parts.charter(SPEC, parts.state())
START = genesis_tip(CHARTER)
OWNERS = [Identity.from_seed(bytes([n]) * 32) for n in range(40, 44)]
IN_ORDER = sorted(OWNERS, key=lambda owner: fold_order(SPEC.seed, Round(0), owner.public))
THREE = (SampleRange(round=0, start=0, count=3),)


def commits(owners: Sequence[Identity], **changed: object) -> list[Signed[Commit]]:
    """The first one is changed."""
    made = [parts.commit(owner, base=START.state, tokens=64, samples=4) for owner in owners]
    made[0] = Commit.model_validate(dict(made[0]) | changed)
    return [sign(owner, commit) for owner, commit in zip(owners, made, strict=True)]


def certified(signed: Sequence[Signed[Commit]], trust: TrustSpec = SPEC.trust, **other: object) -> Link:
    """A close with the weights that follow, certified by the run's key."""
    values = tuple(each.value for each in signed)
    weighed = weigh_commits(values, START.position.standings, trust)
    fields = {"weights": tuple(each.weight for each in weighed), "base_state": START.state} | other
    close = parts.close(signed, previous=START.previous, **fields)
    assert isinstance(close, Close)
    return Link(close, values, parts.votes(close))


def test_a_sound_close_is_taken() -> None:
    for count in (2, 3):
        link = certified(commits(IN_ORDER[:count]))
        assert check_step(START.position, link, CHARTER) == link


def test_a_key_without_audited_work_counts_for_the_least_number_of_contributions() -> None:
    """As at the coordinator, also while a trusted key takes part and the new one has no weight."""
    spec = SPEC.model_copy(update={"trust": TrustSpec(mode="open", vouched=(IN_ORDER[0].public,))})
    link = certified(commits(IN_ORDER[:2]), spec.trust)
    assert [weight > 0 for weight in link.close.weights] == [True, False]
    charter = CHARTER.model_copy(update={"spec": spec})
    assert check_step(START.position, link, charter) == link


UNSOUND: dict[str, Callable[[], Link]] = {
    "too few contributions": lambda: certified(commits(IN_ORDER[:1])),
    "too many contributions": lambda: certified(commits(IN_ORDER)),
    "another order": lambda: certified(commits(IN_ORDER[2::-1])),
    "more tokens than its samples have": lambda: certified(commits(IN_ORDER[:2], tokens=4 * LENGTH + 1)),
    "other samples than its ranges name": lambda: certified(commits(IN_ORDER[:2], ranges=THREE)),
    "another weight": lambda: certified(commits(IN_ORDER[:2]), weights=(2**30, 1)),
}


@pytest.mark.parametrize("make", UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_close_is_not_followed(make: Callable[[], Link]) -> None:
    with pytest.raises(StateError):
        check_step(START.position, make(), CHARTER)


def test_an_admitted_key_that_the_list_lacks_is_not_folded() -> None:
    """One closer that lies admits any key; the list of a run is in its spec and its log."""
    listed = TrustSpec(mode="allow-list", vouched=(IN_ORDER[0].public,))
    charter = parts.charter(SPEC.model_copy(update={"trust": listed}), parts.state())
    start = genesis_tip(charter)
    base = replace(start.position, previous=START.previous)
    link = certified(commits(IN_ORDER[:2]))
    with pytest.raises(StateError, match="list"):
        check_step(base, link, charter)
    added = standings_of({PublicKey(IN_ORDER[1].public): Standing("trusted")})
    with_added = certified(commits(IN_ORDER[:2]), standings=added.name)
    assert check_step(replace(base, standings=added), with_added, charter) == with_added
