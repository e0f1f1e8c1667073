"""The quick lane of `scripts/check` names tests that exist."""

from __future__ import annotations

import re

from tests.support.programs import ROOT


def test_the_quick_lane_names_tests_that_exist() -> None:
    script = (ROOT / "scripts" / "check").read_text(encoding="utf-8")
    named = [name for line in script.splitlines() if line.startswith("    tests/") for name in line.split()]
    assert len(named) > 20
    for name in named:
        assert re.fullmatch(r"tests/[\w/]+(\.py)?", name)
        assert (ROOT / name).exists(), name
