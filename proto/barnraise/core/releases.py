"""Versions of Barnraise, such as 0.1.0."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d+")


def is_newer(release: str, than: str) -> bool:
    """Whether one version of Barnraise is newer than another one."""
    return _numbers(release) > _numbers(than)


def _numbers(release: str) -> tuple[int, ...]:
    found = [int(number) for number in _NUMBER.findall(release)]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
