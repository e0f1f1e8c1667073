"""Pinned bytes: what a blob and a folded state are on every machine, and for as long as runs go on.

Inputs are made of integers, so that they are the same everywhere. When one of these tests fails, the
change parts its program from every run that is under way: it needs a new version of the format.
"""

from __future__ import annotations

import numpy as np
import pytest

from barnraise.codec import encode_in_place
from barnraise.fold import Contribution, fold
from barnraise.ids import blob_hash
from barnraise.spec import AdamW, CodecSpec, Dense, Raw, Sgd
from barnraise.state import Array, Layout, TrainState
from tests.parts import CODECS, codec_name, contribution, run_spec

LAYOUT = Layout((("bias", (13,)), ("one", (1,)), ("weight", (24, 40))))


def integers(seed: int, divisor: int) -> dict[str, Array]:
    """Integers in -500 .. 500 by a multiplicative generator, over a power of two: exact in fp32."""
    found: dict[str, Array] = {}
    number = seed + 1
    for name, shape in LAYOUT:
        values = []
        for _ in range(int(np.prod(shape))):
            number = number * 48271 % (2**31 - 1)  # Park & Miller 1988
            values.append(number % 1001 - 500)
        found[name] = np.array(values, np.float32).reshape(shape) / np.float32(divisor)
    return found


BLOBS = {
BLOBS_HERE
}
STATES = {
STATES_HERE
}
OUTERS: dict[str, Sgd | AdamW] = {
    "mean": Sgd(),
    "nesterov": Sgd(lr=0.7, momentum=0.9, nesterov=True),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
}
FOLDED: tuple[CodecSpec, ...] = (Dense(bits=4, block=16), Raw())


def contributions(round: int, codec: CodecSpec) -> list[Contribution]:
    return [
        contribution(integers(10 * round + peer, 1 << 12), 100 + 37 * peer, codec, LAYOUT)
        for peer in (1, 2, 3)
    ]


def folded(codec: CodecSpec, outer: Sgd | AdamW, rounds: int = 4) -> TrainState:
    state = TrainState(integers(0, 1 << 8))
    spec = run_spec(codec, outer)
    for round in range(rounds):
        state = fold(state, contributions(round, codec), spec)
    return state


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
def test_blobs_are_the_same_bytes_for_ever(codec: CodecSpec) -> None:
    update = integers(7, 1 << 10)
    blob = encode_in_place(codec, update, LAYOUT)
    assert blob_hash(blob) == BLOBS[codec_name(codec)]


@pytest.mark.parametrize("codec", FOLDED, ids=codec_name)
@pytest.mark.parametrize("outer", OUTERS)
def test_folded_states_are_the_same_bits_for_ever(codec: CodecSpec, outer: str) -> None:
    assert folded(codec, OUTERS[outer]).hash() == STATES[f"{outer} {codec_name(codec)}"]


def test_the_first_state_has_the_same_hash_for_ever() -> None:
    assert TrainState(integers(0, 1 << 8)).hash() == "FIRST_HERE"
    assert LAYOUT.digest() == "LAYOUT_HERE"
