"""The words of invitations; no other test asserts them."""

from __future__ import annotations

from typing import get_args

import pytest

from barnraise.core.ids import Millis
from coordinator.messages.invitations import entrance_message, invitation_line
from coordinator.reasons.entrance import Entrance, ListedInvitation, OpenToAll, OpenToInvited, OpenToList
from tests.support.parts import NOW

ID = "1f" * 8
SAID: list[tuple[Entrance, str]] = [
    (OpenToAll(), "The run is open: everybody who has this invite can join, on probation."),
    (OpenToList(3), "It admits the 3 keys in trust.vouched, and those that `coordinator vouch` adds."),
    (OpenToList(1), "It admits the one key in trust.vouched, and those that `coordinator vouch` adds."),
    (OpenToList(), "It admits the keys in trust.vouched, and those that `coordinator vouch` adds."),
    (
        OpenToInvited(ID, 20, NOW),
        f"It admits 20 volunteers until 14 November 2023, 22:13 UTC (invitation {ID}).",
    ),
    (
        OpenToInvited(ID, 1, NOW),
        f"It admits 1 volunteer until 14 November 2023, 22:13 UTC (invitation {ID}).",
    ),
]


@pytest.mark.parametrize(("entrance", "words"), SAID)
def test_whom_an_invite_admits(entrance: Entrance, words: str) -> None:
    assert entrance_message(entrance) == words


def test_every_entrance_has_words() -> None:
    assert {type(entrance) for entrance, _ in SAID} == {*get_args(Entrance)}


@pytest.mark.parametrize(
    ("used", "revoked", "now", "state"),
    [
        (3, False, NOW - 1, "until 14 November 2023, 22:13 UTC"),
        (20, False, NOW - 1, "used up"),
        (3, False, NOW + 1, "ended 14 November 2023, 22:13 UTC"),
        (3, True, NOW - 1, "revoked"),
    ],
)
def test_a_listed_invitation(used: int, revoked: bool, now: int, state: str) -> None:
    line = invitation_line(ListedInvitation(ID, 20, used, NOW, revoked, Millis(now)))
    assert line == f"{ID}  {used} of 20 used  {state}"
