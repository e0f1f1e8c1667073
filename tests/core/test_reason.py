"""A reason is news when its type changes, or a field that is not a number."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason


@dataclass(frozen=True)
class Waiting(Reason):
    names: tuple[str, ...]
    seconds: float
    late: bool = False


@dataclass(frozen=True)
class Done(Reason):
    pass


def test_the_first_reason_is_news() -> None:
    assert Done().is_news_after(None)


def test_another_type_is_news() -> None:
    assert Done().is_news_after(Waiting(("ada",), 1.0))


def test_changed_numbers_are_not_news() -> None:
    assert not Waiting(("ada",), 2.0).is_news_after(Waiting(("ada",), 1.0))


def test_other_names_and_flags_are_news() -> None:
    before = Waiting(("ada",), 1.0)
    assert Waiting(("ada", "ben"), 1.0).is_news_after(before)
    assert Waiting(("ada",), 1.0, late=True).is_news_after(before)
