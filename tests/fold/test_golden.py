"""Pinned bytes: what a blob and a folded state are on every machine, and for as long as runs go on.

Inputs are made of integers, so that they are the same everywhere. When one of these tests fails, the
change parts its program from every run that is under way: it needs a new version of the format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from barnraise.contract.spec import AdamW, CodecSpec, Dense, Raw, Sgd, Sparse
from barnraise.contract.state import Layout, TrainState
from barnraise.core.ids import blob_hash
from barnraise.fold.aggregators import Aggregate, Contribution, factors
from barnraise.fold.codec import encode_in_place
from barnraise.fold.fold import fold
from tests.support.parts import CODECS, codec_name, contribution, integers, run_spec

LAYOUT = Layout((("bias", (13,)), ("one", (1,)), ("weight", (24, 40))))


BLOBS = {
    "dense1": "89047c02b2a22c4d7856b5a39b24983ecd9405cfd8035fb686c27eb04bf01e93",
    "dense2": "74bd364a75cb41d8864ccd767c31d916df9122737448d9ce412e6973aad6d6f1",
    "dense4": "04763ee470276cb9bb1c74fa51b40f30f47817fdad582a7bb5dc6f403520f9ad",
    "dense8": "402aad8a00bcc2ba6c97be688f08abce045d5d78eed294a08aa6adcf6a135b3f",
    "dense16": "db28810c983b8a333e3b2fff4a1338bb8b1d0974aea3b8e4544efe9a310b8beb",
    "sparse2": "eacba2340a3244d5f9b0254f4de11d59a08702c1cb33e6e5240a83887b855725",
    "sparse4": "e85bb863d2206a0df2370bb6449c7ef39c7f384a6ffdf63f3f77b9c4e738a61f",
    "raw": "af6f6e06261b529369612506b991aead736821e1f26064470ebea48fdc7ec011",
}
STATES = {
    "mean dense4": "8ed42dc5d39acdf2ec074409f52d8fc6c5cac66251db69a4c833ab0ab117c538",
    "mean sparse4": "f174d2694471ea1dca36efeb1432c79fc20acc8555d3e7faa81abf85e4935804",
    "mean raw": "7542e270041b9f352d19fa12fff3f39c9a014b8247478f489087385396093496",
    "nesterov dense4": "c76af63e5d4f9dd68c3be2673654140954f97f6c66017090e16a339e0ca772fd",
    "nesterov sparse4": "ed5b3af0cf02ff989707dc04ea842d4f691f26d215bcaca9db24584f5c9c315a",
    "nesterov raw": "aa16a1b025ea64652b9f00b3eda66ff7c3d784dab406bdbb90b7b33ccfb7cbab",
    "adamw dense4": "d7d5d5690b079f85cf476140e2d205572e9ddc98bfac0a20dd7b530e184842e0",
    "adamw sparse4": "5c67277c09ce3173146cb4475aa392894ba778d13d5be4ae6c0cc61982462901",
    "adamw raw": "61c5cff17295fd9be3ea545b8d5b77ba1635fd3df0e3549e0973d21a826ab62d",
}
CLIPPED = {
    "dense1": "a20b5930d694fb0a1718b56bced6a9d3a3e297984bbdeacce7a6405c88e9ab95",
    "dense2": "5d986adfeb977a9176ba5022960fe3851a461b8af2b0ae0f32a818d7a010be1e",
    "dense4": "5c62dcb51f252300e8edebdd1bba73e715cb7423b8cde1a9a6344502a5b713fb",
    "dense8": "1f9ee3332072aa97cb233c0cf378a00347a17293d61434a183b6d733bdf8bd87",
    "dense16": "9468aefa03ea4899aa1ddc7eb5131b05c1549d62f25683c3c81ccf5eae09e10d",
    "raw": "ede40f3f4d9e537b14ceffda296ef0b3b82ae9b8f5dac110ad730d648607e545",
    "sparse2": "655a7b7afeafb8ab5e0a213c030a606e4b380e141b2b3f3d10141bc97f4762f9",
    "sparse4": "58346718fc0538a9a0fdd86be7f79062884c639229dfa1f366a4740bb8b156e8",
}
"""Of the clipped mean, by codec."""
OUTERS: dict[str, Sgd | AdamW] = {
    "mean": Sgd(),
    "nesterov": Sgd(lr=0.7, momentum=0.9, nesterov=True),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
}
AGGREGATES: tuple[Aggregate, ...] = ("clipped_mean", "mean")
FOLDED: tuple[CodecSpec, ...] = (
    Dense(bits=4, block=16),
    Raw(),
    Sparse(density=0.125, bits=4, block=64),
)


def contributions(round: int, codec: CodecSpec) -> list[Contribution]:
    return [
        contribution(integers(10 * round + peer, 1 << 12, LAYOUT), 100 + 37 * peer, codec, LAYOUT)
        for peer in (1, 2, 3)
    ]


def uneven(round: int, codec: CodecSpec) -> list[Contribution]:
    """Of other norms, and one of a key on probation. Each round clips two of them."""
    divisors = (1 << 12, 1 << 10, 3 << 11, 1 << 11)
    found = [
        contribution(integers(10 * round + peer, divisor, LAYOUT), 100 + 37 * peer, codec, LAYOUT)
        for peer, divisor in enumerate(divisors)
    ]
    return [*found[:-1], replace(found[-1], weight=50, trusted=False)]


def folded(
    codec: CodecSpec,
    outer: Sgd | AdamW,
    sent: Callable[[int, CodecSpec], list[Contribution]] = contributions,
    aggregate: Aggregate = "mean",
) -> TrainState:
    state = TrainState(integers(0, 1 << 8, LAYOUT))
    spec = run_spec(codec, outer, aggregate)
    for round in range(4):
        state = fold(state, sent(round, codec), spec)
    return state


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
def test_blobs_have_the_pinned_bytes(codec: CodecSpec) -> None:
    update = integers(7, 1 << 10, LAYOUT)
    blob = encode_in_place(codec, update, LAYOUT)
    assert blob_hash(blob) == BLOBS[codec_name(codec)]


@pytest.mark.parametrize("codec", FOLDED, ids=codec_name)
@pytest.mark.parametrize("outer", OUTERS)
def test_folded_states_have_the_pinned_hashes(codec: CodecSpec, outer: str) -> None:
    assert folded(codec, OUTERS[outer]).hash() == STATES[f"{outer} {codec_name(codec)}"]


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
def test_states_of_the_clipped_mean_have_the_pinned_hashes(codec: CodecSpec) -> None:
    shares = [
        clipped / mean
        for clipped, mean in zip(
            *(factors(aggregate, uneven(0, codec)) for aggregate in AGGREGATES), strict=True
        )
    ]
    assert [share < 1 for share in shares] == [False, True, False, False]
    assert folded(codec, Sgd(), uneven, "clipped_mean").hash() == CLIPPED[codec_name(codec)]


def test_the_first_state_has_the_pinned_hash() -> None:
    assert (
        TrainState(integers(0, 1 << 8, LAYOUT)).hash()
        == "79bac9ef63394a6493f7da0375f6dab75a712543741015fdfddec095fb319a3e"
    )
    assert LAYOUT.digest() == "c5ae6ae7d7edcad1d9c64a7ac78ca6218853bde04d604702ae858a8b00bfe0ac"
