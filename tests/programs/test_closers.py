"""A run with three closers goes on without the coordinator, or without any other one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import INVITE, ROOT, Program, Stage, free_ports, stage

pytestmark = pytest.mark.slow

FOLLOWERS = ("eva", "fay")


def coordinator_command(*arguments: str) -> str:
    command = [sys.executable, "-c", "from coordinator.cli.main import main; main()", *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment())
    return found.stdout.strip()


def closer_key(folder: Path) -> str:
    return coordinator_command("closer-key", str(folder))


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}


def follow(act: Stage, name: str, invite: str, part: str = "closes rounds of") -> Program:
    program = act.follow(name, invite)
    program.wait_for(f" {part} ")
    return program


def name_closers(folder: Path, keys: list[str]) -> None:
    spec = folder / "run.toml"
    spec.write_text(spec.read_text() + f"[closers]\nkeys = {keys}\n")


def test_rounds_close_without_the_coordinator(tmp_path: Path) -> None:
    prepare(tmp_path)
    keys = [closer_key(tmp_path / name) for name in FOLLOWERS]
    name_closers(tmp_path, keys)
    with stage(tmp_path) as act:
        ports = free_ports(2)
        coordinator, invite = act.serve(*ports)
        followers = [follow(act, name, invite) for name in FOLLOWERS]
        peers = [act.join(name, invite) for name in ("ada", "ben")]
        coordinator.wait_for(r"round \d+ folded: 2 contributions")
        coordinator.kill()
        last = max(coordinator.states())
        both = last  # a volunteer may be late for any one round: its work counts in the next
        while both < last + 2:
            both = int(followers[0].wait_for(r"round (\d+) folded: 2 contributions")[1])
        followers[1].wait_for(rf"round {both} folded: 2 contributions")
        again, _ = act.serve(*ports)
        again.wait_for(rf"round {both + 1} folded")
        for peer in peers:
            peer.wait_for(rf"^round {both + 2}: ")
        common = check_agreement(coordinator, again, *followers, *peers)
        assert set(range(last + 1, both + 2)) <= common
        for program in (again, *followers, *peers):
            assert "Traceback" not in program.output


@pytest.mark.full("five programs take minutes")
def test_a_volunteer_joins_and_an_archive_is_served_while_the_coordinator_is_away(tmp_path: Path) -> None:
    prepare(tmp_path)
    name_closers(tmp_path, [closer_key(tmp_path / name) for name in FOLLOWERS])
    with stage(tmp_path) as act:
        coordinator, invite = act.serve()
        followers = [follow(act, name, invite) for name in FOLLOWERS]
        node = followers[0].wait_for(r"reached at (\S+@\S+), for")[1]
        url = followers[0].wait_for(r"how to download them, are at (\S+)")[1]
        ada = act.join("ada", invite)
        coordinator.wait_for(r"round \d+ folded: 1 contribution")
        coordinator.kill()
        for follower in followers:
            follower.wait_for(r"checkpoint of round \d+ written while|round \d+ folded")
        ben = act.join("ben", f"{invite}&node={node}")
        ben.wait_for(r"^round \d+: ")
        followers[0].wait_for(r"round \d+ folded: 2 contributions")
        assert check_agreement(*followers, ada, ben)
        with urllib.request.urlopen(f"{url}/archive.json", timeout=10) as answer:
            assert json.loads(answer.read())["closed"] > 0
        for program in (*followers, ada, ben):
            assert "Traceback" not in program.output


@pytest.mark.full("four programs take minutes")
def test_closers_are_named_while_a_run_goes_on(tmp_path: Path) -> None:
    """At first the run key closes alone."""
    prepare(tmp_path)
    keys = [closer_key(tmp_path / name) for name in FOLLOWERS]
    with stage(tmp_path) as act:
        coordinator, invite = act.serve(*free_ports(2))
        followers = [follow(act, name, invite, "follows") for name in FOLLOWERS]
        peer = act.join("ada", invite)
        coordinator.wait_for(r"round \d+ folded")
        options = [option for key in keys for option in ("--closer", key)]
        coordinator_command("delegate", str(tmp_path / "coordinator"), *options)
        coordinator.wait_for("other closers take part from now on")
        coordinator.wait_for(r"round \d+ folded")
        coordinator.kill()
        last = max(coordinator.states())
        for follower in followers:
            follower.wait_for(rf"round {last + 2} folded")
        assert check_agreement(coordinator, *followers, peer)
        for program in (*followers, peer):
            assert "Traceback" not in program.output


@pytest.mark.full("seven programs, some after others, take minutes")
def test_a_follower_steps_back_to_a_resume(tmp_path: Path) -> None:
    """The coordinator's disk is lost while nobody is there who knows what was closed meanwhile."""
    prepare(tmp_path)
    name_closers(tmp_path, [closer_key(tmp_path / name) for name in FOLLOWERS])
    with stage(tmp_path) as act:
        ports = free_ports(2)
        coordinator, invite = act.serve(*ports)
        followers = [follow(act, name, invite) for name in FOLLOWERS]
        peer = act.join("ada", invite)
        coordinator.wait_for(r"round \d+ folded")
        coordinator.kill()
        last = max(coordinator.states())
        for follower in followers:
            follower.wait_for(rf"round {last} folded")
        for program in (*followers, peer):
            program.kill()
        for lost in (tmp_path / "coordinator").glob("journal.sqlite*"):
            lost.unlink()
        again = act.launch(*ports, more=["--recover-from", invite, "--without-closers"])
        again.wait_for(INVITE)
        followers = [follow(act, name, invite) for name in FOLLOWERS]
        for follower in followers:
            follower.wait_for("is void")
            follower.wait_for(" follows ")
        peer = act.join("ada", invite)
        found = again.wait_for(r"round (\d+) folded: .* state (\w{8})")
        for follower in followers:
            follower.wait_for(rf"round {found[1]} folded: .* state {found[2]}")
        peer.wait_for(rf"^round {int(found[1]) + 1}: .* state {found[2]}")
        for program in (again, *followers, peer):
            assert "Traceback" not in program.output


ACCEPTED, FOLDED = r" accepted \w+: ", r" round \d+ folded: "
CLOSED = r"round \d+ closed by the votes of \d closers"


@pytest.mark.full("five programs, and nine kills one after another, take minutes")
def test_no_kill_of_a_closer_in_any_phase_stops_or_splits_the_run(tmp_path: Path) -> None:
    """Each starts again at once. Nothing that a close has is missing anywhere: all states agree."""
    prepare(tmp_path)
    name_closers(tmp_path, [closer_key(tmp_path / name) for name in FOLLOWERS])
    with stage(tmp_path) as act:
        ports = free_ports(2)
        coordinator, invite = act.serve(*ports)
        running = {"coordinator": coordinator} | {name: follow(act, name, invite) for name in FOLLOWERS}
        ended: list[Program] = []
        peers = [act.join(name, invite) for name in ("ada", "ben")]
        for phase in (ACCEPTED, CLOSED, FOLDED):
            for name in ("coordinator", *FOLLOWERS):
                program = running[name]
                program.wait_for(phase)
                program.kill()
                ended.append(program)
                again = act.serve(*ports)[0] if name == "coordinator" else follow(act, name, invite)
                running[name] = again
        last = max(max(program.states(), default=0) for program in running.values())
        for program in running.values():
            program.wait_for(rf"round {last + 2} folded")
        assert check_agreement(*running.values(), *ended, *peers)
        for program in (*running.values(), *ended, *peers):
            assert "Traceback" not in program.output
