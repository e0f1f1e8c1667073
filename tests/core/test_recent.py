"""A set that forgets its oldest members."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnraise.core.recent import Recent


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_the_newest_members_are_there_and_no_other(steps: list[tuple[bool, int]], limit: int) -> None:
    recent, expected = Recent[int](limit), list[int]()
    for added, member in steps:
        expected = [each for each in expected if each != member]
        if added:
            recent.add(member)
            expected = [*expected, member][-limit:]
        else:
            recent.discard(member)
        assert [each for each in range(10) if each in recent] == sorted(expected)
        assert len(recent) == len(expected)
