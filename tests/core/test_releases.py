"""Versions of Barnraise, and the error that asks for a newer one."""

from __future__ import annotations

import pytest

from barnraise import __version__
from barnraise.core.errors import NewerVersion
from barnraise.core.releases import is_newer


@pytest.mark.parametrize(
    ("release", "than", "newer"),
    [("0.2", "0.1.9", True), ("0.1", "0.1.0", False), ("0.10", "0.9", True), ("1", "1.0.1", False)],
)
def test_releases_are_compared_number_by_number(release: str, than: str, newer: bool) -> None:
    assert is_newer(release, than) is newer


@pytest.mark.parametrize(("release", "wanted"), [("99.1", "'barnraise>=99.1'"), (__version__, "barnraise")])
def test_a_format_of_a_newer_version_names_an_installation_that_changes_something(
    release: str, wanted: str
) -> None:
    assert NewerVersion("the journal", release).fix == f"Install it: pip install -U {wanted}"
