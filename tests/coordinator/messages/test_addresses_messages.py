"""The words about addresses that not everyone reaches."""

from __future__ import annotations

import pytest

from coordinator.messages.addresses import address_message
from coordinator.reasons.addresses import AddressDoubt, LimitedReach, OtherFamily


@pytest.mark.parametrize(
    ("doubt", "words"),
    [
        (LimitedReach("127.0.0.1", "this machine"), "only programs on this machine can join"),
        (LimitedReach("10.0.0.1", "local network"), "only machines of the same network or VPN can join"),
        (LimitedReach("192.0.2.1", "no one"), "no one there can join with it"),
        (OtherFamily("2a00::1", 6, "0.0.0.0"), "this coordinator listens on 0.0.0.0"),
    ],
)
def test_it_says_who_can_reach_an_address(doubt: AddressDoubt, words: str) -> None:
    assert words in address_message(doubt)
