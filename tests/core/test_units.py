"""Numbers of bytes, formatted for people."""

from __future__ import annotations

import pytest

from barnraise.core.units import format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1260, "1.26 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (13_630_000, "13.6 MB"),
        (538_100_000, "538 MB"),
        (2 * 10**9, "2 GB"),
        (3 * 10**12, "3 TB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text
