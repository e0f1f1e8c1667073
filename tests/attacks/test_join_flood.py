"""One address, or one key, that calls the coordinator as often as it can."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from barnraise.contract.invite import Invite
from barnraise.contract.records import JoinClaim
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from barnraise.network.tls.channel import secure_channel
from barnraise.runtime.run_clock import RunClock
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from coordinator.call_limits import LIMITS
from coordinator.grpc_guard import CallGuard
from coordinator.guarded_port import GuardedPort
from coordinator.store.run_store import RunStore
from peer.coordinator_client import connect
from peer.unreachable import CoordinatorUnreachable, TooManyCalls
from tests.support import parts
from tests.support.coordinators import opened_store, served, session_of

OK, TOO_MANY = "ok", "RESOURCE_EXHAUSTED"
PATIENCE = 20.0
"""Seconds for one call on a busy machine."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    spec = parts.run_spec().model_copy(update={"trust": TrustSpec(mode="open")})
    with opened_store(tmp_path, spec) as made:
        yield made


def claim_of(identity: Identity, name: str, at: int = parts.NOW) -> bytes:
    claim = JoinClaim(
        run=parts.RUN, owner=identity.public, instance=parts.INSTANCE, name=name, credit=False, at=at
    )
    return sign(identity, claim).wire


async def joins(invite: Invite, claims: list[bytes]) -> Counter[str]:
    """Send claims on one connection. Counts the outcomes."""
    outcomes: Counter[str] = Counter()
    async with secure_channel(invite.endpoints[0], invite.run, (invite.key,)) as channel:
        stub = pb_grpc.CoordinatorStub(channel)
        for wire in claims:
            try:
                await stub.Join(pb.JoinRequest(signed_claim=wire), timeout=PATIENCE)
                outcomes[OK] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[error.code().name] += 1
    return outcomes


def journaled(store: RunStore) -> int:
    return len(store.snapshot.claims)


@pytest.mark.usefixtures("address")
def test_many_new_keys_of_address_are_admitted_slowly(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CallGuard.__init__, "__defaults__", (lambda: 0.0,))
    burst = int(LIMITS.new_keys.burst)

    async def play() -> None:
        async with served(session_of(store)) as invite:
            keys = [Identity.generate() for _ in range(burst + 50)]
            found = await joins(invite, [claim_of(key, "") for key in keys])
            assert found == {OK: burst, TOO_MANY: 50}
            assert journaled(store) == burst
            known = keys[0]
            assert await joins(invite, [claim_of(known, "renewed")]) == {OK: 1}, "who was admitted renews"

    asyncio.run(play())


@pytest.mark.usefixtures("address")
def test_a_call_counts_for_its_address_also_when_its_connection_has_ended() -> None:
    """Clients that sent calls and left were not limited: gRPC began some of their calls later."""
    ports: list[int] = []

    async def play() -> None:
        ended = asyncio.Event()

        async def grpc_side(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ports.append(writer.get_extra_info("peername")[1])
            with suppress(OSError):
                await reader.read()
            writer.close()
            ended.set()

        server = await asyncio.start_server(grpc_side, "127.0.0.1", 0)
        guarded = GuardedPort(LIMITS)
        port = guarded.bind("127.0.0.1", 0)
        await guarded.pass_to(server.sockets[0].getsockname()[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"a call")
        writer.close()
        await asyncio.wait_for(ended.wait(), PATIENCE)
        await guarded.stop()
        server.close()
        assert guarded.group_of(f"ipv4:127.0.0.1:{ports[0]}") == "192.0.2.1"

    asyncio.run(play())


def test_another_address_joins_during_a_flood(store: RunStore, address: list[str]) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            flood = [claim_of(Identity.generate(), "") for _ in range(int(LIMITS.new_keys.burst) + 20)]
            assert (await joins(invite, flood))[TOO_MANY] > 0
            address[0] = "198.51.100.7"
            assert await joins(invite, [claim_of(parts.ADA, "ada")]) == {OK: 1}

    asyncio.run(play())


def test_one_key_that_changes_its_name_fills_neither_time_nor_journal(store: RunStore) -> None:
    """Each claim was journaled, and each waited for the disk."""
    before = len(list(store.journal.rows()))

    async def play() -> None:
        async with served(session_of(store)) as invite:
            claims = [claim_of(parts.ADA, f"ada {n}") for n in range(40)]
            found = await joins(invite, claims)
            assert found[TOO_MANY] > 0
            assert found[OK] >= LIMITS.per_key.burst

    asyncio.run(play())
    assert len(list(store.journal.rows())) == before + 1


def test_refused_strangers_do_not_fill_the_log(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """Each refusal of another key was a line."""

    async def play() -> None:
        async with served(session_of(store)) as invite:
            late = parts.NOW - 10 * 3_600_000
            found = await joins(invite, [claim_of(Identity.generate(), "", late) for _ in range(90)])
            assert found == {"PERMISSION_DENIED": 90}

    asyncio.run(play())
    assert sum("refused a claim" in record.getMessage() for record in caplog.records) == 30


def test_a_new_name_is_journaled_an_hour_later(store: RunStore) -> None:
    for minutes, name in ((0, "ada"), (30, "eve"), (60, "ada l.")):
        at = parts.NOW + minutes * 60_000
        claim = JoinClaim(run=parts.RUN, owner=parts.ADA.public, name=name, credit=False, at=at)
        store.admit(sign(parts.ADA, claim), Millis(at))
        assert store.snapshot.claims[parts.ADA.public].name == ("ada" if minutes < 60 else "ada l.")


@pytest.mark.usefixtures("address")
def test_status_and_charter_are_limited_and_a_volunteer_reads_why(store: RunStore) -> None:
    async def play() -> None:
        async with served(session_of(store)) as invite:
            async with secure_channel(invite.endpoints[0], invite.run, (invite.key,)) as channel:
                stub = pb_grpc.CoordinatorStub(channel)
                for call in range(int(LIMITS.per_address.burst) * 3):
                    try:
                        if call % 2:
                            await stub.GetStatus(pb.GetStatusRequest(), timeout=PATIENCE)
                        else:
                            await stub.GetCharter(pb.GetCharterRequest(), timeout=PATIENCE)
                    except grpc.aio.AioRpcError as error:
                        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
                        break
                else:
                    pytest.fail("no call was refused")
            with pytest.raises(CoordinatorUnreachable) as refused:
                await join_often(invite)
            assert isinstance(refused.value.cause, TooManyCalls)
            assert "calls too often" in refused.value.problem

    asyncio.run(play())


async def join_often(invite: Invite) -> None:
    clock = RunClock(lambda: Millis(0), lambda: parts.NOW)
    async with connect(invite) as there:
        for _ in range(int(LIMITS.per_address.burst)):
            await there.join(parts.ADA, "", clock, instance=parts.INSTANCE)
