"""Programs of two versions in one run: a second build is a copy of the packages with other constants."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from barnraise import __version__
from tests.programs.test_processes import prepare
from tests.support.programs import ROOT, Program, free_ports, stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.full("four programs of two builds, one after another, take minutes"),
]


def build(folder: Path, release: str, *, spoken: int, oldest: int) -> Path:
    """A build of another version. Its heartbeats, commits and claims have a field that others do not know."""
    for package in ("coordinator", "peer", "proto"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    barnraise = folder / "proto" / "barnraise"
    replace(barnraise / "__init__.py", r'__version__ = ".*"', f'__version__ = "{release}"')
    protocol = barnraise / "contract" / "protocol.py"
    replace(protocol, r"^SPOKEN = \d+", f"SPOKEN = {spoken}")
    replace(protocol, r"^OLDEST = \d+", f"OLDEST = {oldest}")
    more = r"\g<0>\n    news: str = 'of a later version'"
    for name in ("Presence", "Commit", "JoinClaim", "Head"):
        replace(barnraise / "contract" / "records.py", rf'^    DOMAIN = b"barnraise/{name}/1\\n"$', more)
    return folder


def replace(file: Path, pattern: str, new: str) -> None:
    text, found = re.subn(pattern, new, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found == 1, (file, pattern)
    file.write_text(text, encoding="utf-8")


def test_a_run_goes_on_while_its_programs_are_updated_one_after_another(tmp_path: Path) -> None:
    prepare(tmp_path)
    newer = build(tmp_path / "newer", "0.9.0", spoken=2, oldest=1)
    port, p2p_port = free_ports(2)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve(port, p2p_port)
        ada, ben = act.join("ada", invite), act.join("ben", invite, root=newer)
        coordinator.wait_for(r"folded: 2 contributions")
        coordinator.interrupt()

        coordinator, _ = act.serve(port, p2p_port, root=newer)
        coordinator.wait_for(r"folded: 2 contributions")
        ada.interrupt()
        left_in = max(coordinator.states())  # rounds up to this one may have two contributions without it

        ada = act.join("ada", invite, root=newer)
        while int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1]) <= left_in:
            pass
        for program in (ada, ben, coordinator):
            program.interrupt()


def test_a_version_that_does_not_fit_is_refused_with_what_to_install(tmp_path: Path) -> None:
    prepare(tmp_path)
    newer = build(tmp_path / "newer", "0.9.0", spoken=3, oldest=3)
    port, p2p_port = free_ports(2)
    with stage(tmp_path) as act:
        coordinator, invite = act.serve(port, p2p_port)
        ada = act.join("ada", invite)
        refused(act.join("ben", invite, root=newer), f"barnraise=={__version__}")
        coordinator.wait_for(r"folded: 1 contributions")
        coordinator.interrupt()

        coordinator, _ = act.serve(port, p2p_port, root=newer)
        refused(ada, "barnraise>=0.9.0")
        refused(act.join("cyd", invite), "barnraise>=0.9.0")


def refused(program: Program, install: str) -> None:
    assert program.wait() == 6, program.output
    assert install in program.output
    assert "Traceback" not in program.output
