"""Volunteers at home: real nodes and programs in network namespaces, each behind its own NAT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.netns import Host, network, unavailable_reason
from tests.programs.test_processes import check_agreement, prepare
from tests.support.programs import Program, Stage, stage
from tests.support.swarm_program import identity

MISSING = unavailable_reason()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")]

SIZE = 3_000_000
MORE = 4_000_000
COORDINATOR, OWNER, ASKER, OTHER = 1, 2, 3, 4
"""Seeds of identities."""


def node(act: Stage, name: str, seed: int, on: Host, **more: object) -> Program:
    settings = {
        "run": "tiny-0123456789ab",
        "authority": identity(COORDINATOR).public,
        "seed": seed,
        "folder": str(act.folder / name),
        "listen": "/ip4/0.0.0.0/tcp/0",
        "bootstrap": [],
        "blobs": [],
        **more,
    }
    return act.start(name, "tests.support.swarm_program", json.dumps(settings), on=on)


def addresses(program: Program, host: Host) -> list[str]:
    """The public ones."""
    return [text for text in program.wait_for(r"^addresses (.*)")[1].split() if f"/{host.address}/" in text]


def test_a_blob_travels_between_homes_through_a_relay(tmp_path: Path) -> None:
    with network() as internet, stage(tmp_path) as act:
        middle = internet.public("coordinator")
        bootstrap = addresses(node(act, "coordinator", COORDINATOR, middle), middle)
        blobs = {"bootstrap": bootstrap, "blobs": [SIZE]}
        node(act, "owner", OWNER, internet.home("owner", mbit=50), **blobs).wait_for("^addresses")
        home = internet.home("asker", mbit=50)
        asker = node(act, "asker", ASKER, home, **blobs, ask=identity(OWNER).public, direct=False)
        asker.wait_for(rf"^got {SIZE} by .*p2p-circuit")
        assert home.traffic().down > SIZE
        assert middle.traffic().up > SIZE, "only the coordinator can have relayed it"


def test_a_hole_is_punched_where_four_others_are_public(tmp_path: Path) -> None:
    with network() as internet, stage(tmp_path) as act:
        middle = internet.public("coordinator")
        bootstrap = addresses(node(act, "coordinator", COORDINATOR, middle), middle)
        public = [
            node(act, f"public{i}", OTHER + i, internet.public(f"public{i}"), bootstrap=bootstrap)
            for i in range(4)
        ]
        for program in public:
            program.wait_for("^addresses")
        blobs = {"bootstrap": bootstrap, "blobs": [SIZE, MORE]}
        node(act, "owner", OWNER, internet.home("owner", mbit=50), **blobs).wait_for("^addresses")
        home = internet.home("asker", mbit=50)
        asker = node(act, "asker", ASKER, home, **blobs, ask=identity(OWNER).public, direct=True)
        asker.wait_for(rf"^asking for {MORE}")
        before = middle.traffic().up
        asker.wait_for(rf"^got {MORE} by (?!.*p2p-circuit)")
        assert home.traffic().down > SIZE + MORE
        assert middle.traffic().up - before < MORE / 2, "the coordinator relayed it"


def test_volunteers_behind_nats_hold_one_state(tmp_path: Path) -> None:
    prepare(tmp_path)
    run = tmp_path / "run.toml"
    run.write_text(run.read_text().replace("[round]", '[round]\noverlap = "never"'))
    with network() as internet, stage(tmp_path) as act:
        coordinator, invite = act.serve(on=internet.public("coordinator"))
        peers = [act.join(name, invite, on=internet.home(name, mbit=20)) for name in ("ada", "ben")]
        coordinator.wait_for(r"folded: 2 contributions")
        last = int(coordinator.wait_for(r"round (\d+) folded: 2 contributions")[1])
        for peer in peers:
            peer.wait_for(rf"^round {last + 1}: training")
        assert len(check_agreement(coordinator, *peers)) >= 2
        for peer in peers:
            peer.interrupt()
        for program in (coordinator, *peers):
            assert "Traceback" not in program.output
