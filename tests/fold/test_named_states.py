"""The states that a log names: the one before each close, with its place and its tokens."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.spec import AdamW, Sgd
from barnraise.contract.tip import first_position
from barnraise.fold.log import Amendment, Link, read_step
from barnraise.fold.named_states import named_states, wanted_state
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store
from tests.support.parts import ADA, BEN


def steps_of(store: RunStore) -> list[Link | Amendment]:
    run = store.snapshot
    payloads = [store.blobs.get(logged.name) for logged in run.log]
    found = []
    certificate = run.certificate
    for payload in reversed(payloads):
        assert certificate is not None
        step = read_step(payload, certificate, store.charter)
        assert isinstance(step, Link | Amendment)
        found.append(step)
        certificate = step.entry.certificate
    return found[::-1]


def test_each_close_names_the_state_before_it(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        tips, tokens = [store.snapshot.tip], [0]
        fold_round(store, ADA, BEN)
        store.resume(parts.NOW)
        tips.append(store.snapshot.tip)
        tokens.append(store.snapshot.tokens)
        fold_round(store, ADA)
        steps = steps_of(store)
        found = named_states(first_position(store.charter), 0, steps)
        assert [named.tip for named in found] == tips[::-1]
        assert [named.tokens for named in found] == tokens[::-1]
        later = named_states(tips[1].position, tokens[1], steps[2:])
        assert later == found[:1]


def test_nothing_is_named_before_the_first_close(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        assert not named_states(first_position(store.charter), 0, [])


def test_a_state_has_the_buffers_of_its_round(tmp_path: Path) -> None:
    genesis = parts.state()
    adam = parts.charter(parts.run_spec(outer=AdamW()), genesis)
    plain = parts.charter(parts.run_spec(outer=Sgd(momentum=0.0)), genesis)
    with opened_store(tmp_path) as store:
        first = store.snapshot.tip
        fold_round(store, ADA)
        second = store.snapshot.tip
        assert {*wanted_state(second, store.charter).buffers} == store.state.buffers.keys()
    assert not wanted_state(first, adam).buffers
    assert {*wanted_state(second, adam).buffers} == {"m", "v"}
    assert not wanted_state(second, plain).buffers
