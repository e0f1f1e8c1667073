"""The coordinator's gRPC service over a real connection, asked through the peer's `CoordinatorClient`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from barnraise.contract.audit_task import AuditAnswer, AuditCall
from barnraise.contract.charter import Charter
from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.contract.protocol import Protocol, misfit
from barnraise.contract.records import JoinClaim
from barnraise.core.errors import MalformedRecord, RefusedError, Unreachable, UserError, WrongRunKey
from barnraise.core.ids import Millis, RunId
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.network.tls.certificates import issue
from barnraise.runtime.run_clock import RunClock
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from coordinator.audits.auditing import Auditing
from coordinator.grpc_service import ask_first, ask_status, serve
from coordinator.messages import rounds as messages
from coordinator.reasons.rounds import ClockOff
from coordinator.status import render
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING
from peer.coordinator_client import CoordinatorClient, archive_address, connect
from tests.support import parts
from tests.support.coordinators import (
    NODE,
    api_of,
    opened_store,
    served,
    session_of,
    train_round,
    unused_port,
    with_key,
)

V = TypeVar("V")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def clock(now: Millis = parts.NOW) -> RunClock:
    """A volunteer's estimate of the run's clock, which does not advance."""
    return RunClock(lambda: Millis(0), lambda: now)


NEWEST = Protocol(speaks=2, works_with=2, release="2.0")


def asked(
    store: RunStore, question: Callable[[CoordinatorClient], Awaitable[V]], now: Millis = parts.NOW
) -> V:
    """Call the service of `store`. now: the time of its clock."""

    async def ask() -> V:
        async with served(session_of(store, now=now)) as invite, connect(invite) as there:
            return await question(there)

    return asyncio.run(ask())


def plain(invite: Invite) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(invite.address)


def raw(store: RunStore, question: Callable[[grpc.aio.Channel], Awaitable[V]]) -> V:
    async def ask() -> V:
        async with served(session_of(store), tls=False) as invite, plain(invite) as channel:
            return await question(channel)

    return asyncio.run(ask())


def refusal(store: RunStore, claim: bytes) -> tuple[grpc.StatusCode, str]:
    async def join(channel: grpc.aio.Channel) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.CoordinatorStub(channel).Join(pb.JoinRequest(signed_claim=claim))
        return refused.value.code(), refused.value.details() or ""

    return raw(store, join)


def test_a_volunteer_that_joins_gets_the_charter_an_admission_and_the_head(store: RunStore) -> None:
    joined = asked(store, lambda there: there.join(parts.ADA, "ada", clock(), instance=parts.INSTANCE))
    assert joined.charter == store.charter
    assert joined.admission.signer == parts.AUTHORITY.public
    assert joined.admission.value.peer == parts.ADA.public
    assert joined.admission.value.expires == parts.NOW + round(TIMING.admission * 1000)
    head, state = joined.head, store.snapshot.tip.state
    assert (head.round, head.state, head.bootstrap) == (0, state, (NODE,))


def test_a_volunteer_that_joins_gets_the_run_s_clock(store: RunStore) -> None:
    """A clock that is a day off is set before the claim to join, which states its time."""
    later, found = Millis(parts.NOW + 86_400_000), clock()
    first = asked(store, lambda there: there.clock(), now=later)
    assert 0 <= first() - later < 60_000
    asked(store, lambda there: there.join(parts.ADA, "ada", clock(later), instance=parts.INSTANCE), now=later)
    asked(
        store,
        lambda there: there.join(parts.ADA, "ada", found, instance=parts.INSTANCE),
        now=Millis(parts.NOW + 5_000),
    )
    assert found() == parts.NOW + 5_000


def test_an_admission_is_renewed_by_the_clock(store: RunStore) -> None:
    later = Millis(parts.NOW + 600_000)
    renewed = asked(
        store,
        lambda there: there.join(parts.ADA, "ada", clock(), instance=parts.INSTANCE, renew=True),
        now=later,
    )
    assert renewed.admission.value.expires == later + round(TIMING.admission * 1000)


def test_the_charter_needs_no_admission(store: RunStore) -> None:
    assert asked(store, lambda there: there.charter()) == store.charter


def test_a_claim_signed_by_another_key_is_refused(store: RunStore) -> None:
    claim = JoinClaim(
        run=parts.RUN, owner=parts.ADA.public, instance=parts.INSTANCE, name="ada", credit=False, at=parts.NOW
    )
    code, details = refusal(store, sign(parts.STRANGER, claim).wire)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "another key" in details


@pytest.mark.parametrize("corrupt", [lambda wire: wire[:-1] + b"x", lambda _: b"", lambda _: b"\xff" * 5_000])
def test_malformed_claims_are_refused(store: RunStore, corrupt: Callable[[bytes], bytes]) -> None:
    claim = JoinClaim(
        run=parts.RUN, owner=parts.ADA.public, instance=parts.INSTANCE, name="ada", credit=False, at=parts.NOW
    )
    code, details = refusal(store, corrupt(sign(parts.ADA, claim).wire))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert all(details.split("\n")), "problem and fix on a line each"


@pytest.mark.parametrize("off", [901, -901])
def test_a_clock_that_is_far_off_is_refused_with_the_fix(store: RunStore, off: int) -> None:
    with pytest.raises(RefusedError) as refused:
        asked(
            store,
            lambda there: there.join(parts.ADA, "", clock(), instance=parts.INSTANCE),
            now=Millis(parts.NOW + off * 1000),
        )
    expected = messages.claim_refusal(ClockOff(off))
    assert expected.problem in refused.value.problem
    assert refused.value.fix == expected.fix


def test_the_claim_for_another_run_is_refused(store: RunStore) -> None:
    claim = JoinClaim(
        run="shed", owner=parts.ADA.public, instance=parts.INSTANCE, name="ada", credit=False, at=parts.NOW
    )
    code, details = refusal(store, sign(parts.ADA, claim).wire)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "shed" in details


@pytest.mark.parametrize(("speaks", "install"), [(99, "=="), (1, ">=")])
def test_a_volunteer_of_another_protocol_is_refused_with_what_to_install(
    store: RunStore,
    speaks: int,
    install: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    theirs = Protocol(speaks=speaks, works_with=speaks, release="9.9")
    monkeypatch.setattr("barnraise.contract.records.misfit", lambda found: misfit(found, NEWEST))
    claim = JoinClaim(
        run=parts.RUN, owner=parts.ADA.public, name="", credit=False, protocol=theirs, at=parts.NOW
    )
    code, details = refusal(store, sign(parts.ADA, claim).wire)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "pip install" in details
    assert f"barnraise{install}2.0" in details
    assert "9.9" in caplog.text


def test_an_invite_with_another_key_is_rejected(store: RunStore) -> None:
    async def ask() -> None:
        async with (
            served(session_of(store)) as invite,
            connect(with_key(invite, parts.STRANGER.public)) as it,
        ):
            await it.join(parts.ADA, "ada", clock(), instance=parts.INSTANCE)

    with pytest.raises(WrongRunKey, match="has the key"):
        asyncio.run(ask())


def test_an_invite_for_another_run_is_rejected(store: RunStore) -> None:
    async def ask() -> None:
        async with served(session_of(store)) as invite:
            other = Invite(invite.endpoints, RunId("shed"), invite.key)
            async with connect(other) as there:
                await there.charter()

    with pytest.raises(UserError, match="serves the run barn"):
        asyncio.run(ask())


def test_the_status_after_a_round(store: RunStore) -> None:
    train_round(store, parts.ADA, parts.BEN)

    async def ask(channel: grpc.aio.Channel) -> str:
        return str((await pb_grpc.CoordinatorStub(channel).GetStatus(pb.GetStatusRequest())).json)

    status = json.loads(raw(store, ask))
    assert (status["run"], status["round"], status["checkpoint_round"]) == ("barn", 1, 1)
    assert (status["state"], status["tokens"], status["loss"]) == (store.snapshot.tip.state, 128, 2.5)


def test_the_status_over_the_network(store: RunStore) -> None:
    async def ask() -> str:
        async with served(session_of(store)) as invite:
            assert await ask_first(invite) == await ask_status(invite.address)
            return render(await ask_status(invite.address))

    shown = asyncio.run(ask())
    assert "barn: round 0, train" in shown
    assert "0 volunteers" in shown


def test_without_tls_a_volunteer_of_this_machine_joins(store: RunStore) -> None:
    async def ask() -> Charter:
        async with served(session_of(store), tls=False) as invite, connect(invite) as there:
            assert (await ask_status(invite.address)).run == "barn"
            return await there.charter()

    assert asyncio.run(ask()) == store.charter


HERE, THERE = Endpoint("127.0.0.1", 7451), Endpoint("2001:db8::7", 7451)


@pytest.mark.parametrize(
    ("gateways", "asked", "address"),
    [
        (("http://192.0.2.1:7453", "http://127.0.0.1:7453"), HERE, "http://127.0.0.1:7453"),
        (("http://192.0.2.1:7453",), HERE, "http://127.0.0.1:7453"),
        (("http://192.0.2.1:7453",), THERE, "http://[2001:db8::7]:7453"),
        (("http://192.0.2.1:7453", "http://[2001:db8::7]:7453"), THERE, "http://[2001:db8::7]:7453"),
        (("https://models.example.org",), HERE, "https://models.example.org"),
        (("http://models.example.org/barn",), HERE, "http://models.example.org/barn"),
        ((), HERE, None),
    ],
    ids=["its host", "tunnel", "tunnel, IPv6", "IPv6", "a proxy", "another server", "none"],
)
def test_the_address_of_the_archive_is_in_the_head(
    store: RunStore, gateways: tuple[str, ...], asked: Endpoint, address: str | None
) -> None:
    addresses = CoordinatorAddresses((), ("192.0.2.1:7451",), gateways)
    head = store.snapshot.head(parts.NOW, addresses, turns=1, volunteers=0, tokens=0)
    assert archive_address(head, asked) == address


def test_a_coordinator_without_a_gateway_is_reported(store: RunStore) -> None:
    async def ask() -> None:
        async with served(session_of(store)) as invite, connect(invite) as there:
            await there.gateway()

    with pytest.raises(Unreachable, match="does not say where its archive is"):
        asyncio.run(ask())


def test_a_key_that_is_not_vouched_for_gets_no_round_to_audit(store: RunStore) -> None:
    call = sign(parts.ADA, AuditCall(run=parts.RUN, owner=parts.ADA.public, at=parts.NOW))

    async def ask() -> AuditAnswer:
        session = session_of(store)
        session.auditing = Auditing(store, session.clock)
        async with served(session) as invite, connect(invite) as there:
            return await there.audit(call, parts.AUTHORITY.public)

    answer = asyncio.run(ask())
    assert (answer.refused, answer.task) == ("not vouched", None)
    assert answer.pause > 0
    with pytest.raises(Unreachable):  # a follower audits nothing
        asked(store, lambda there: there.audit(call, parts.AUTHORITY.public))
    old = sign(parts.ADA, call.value.model_copy(update={"at": 0}))
    other = sign(parts.ADA, call.value.model_copy(update={"run": "other"}))
    for refused in (old, other, sign(parts.BEN, call.value)):

        async def ask_refused(refused: Signed[AuditCall] = refused) -> None:
            session = session_of(store)
            session.auditing = Auditing(store, session.clock)
            async with served(session) as invite, connect(invite) as there:
                await there.audit(refused, parts.AUTHORITY.public)

        with pytest.raises(RefusedError):
            asyncio.run(ask_refused())


def test_the_charter_is_signed_by_the_run_s_key(store: RunStore) -> None:
    async def ask(channel: grpc.aio.Channel) -> bytes:
        reply = await pb_grpc.CoordinatorStub(channel).GetCharter(pb.GetCharterRequest())
        return bytes(reply.signed_charter)

    assert open_signed(Charter, raw(store, ask), signer=parts.AUTHORITY.public).value == store.charter


@pytest.mark.parametrize("service", ["", "barnraise.v1.Coordinator"])
def test_the_health_check_says_serving(store: RunStore, service: str) -> None:
    async def ask(channel: grpc.aio.Channel) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await health_pb2_grpc.HealthStub(channel).Check(request)).status)

    assert raw(store, ask) == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_service(store: RunStore) -> None:
    async def ask(channel: grpc.aio.Channel) -> set[str]:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = stub.ServerReflectionInfo(iter([request]))
        reply = await call.read()
        call.cancel()
        return {service.name for service in reply.list_services_response.service}

    assert {"barnraise.v1.Coordinator", "grpc.health.v1.Health"} <= raw(store, ask)


@pytest.mark.parametrize(("listens", "hosts"), [("::1", ["::1"]), ("::", ["::1", "127.0.0.1"])])
def test_it_listens_on_both_versions_of_ip(store: RunStore, listens: str, hosts: list[str]) -> None:
    async def ask() -> None:
        certificate = issue(store.authority, store.charter.run, ())
        server, port = await serve(api_of(session_of(store)), listens, 0, certificate)
        try:
            for host in hosts:
                invite = Invite((Endpoint(host, port),), parts.RUN, parts.AUTHORITY.public)
                async with connect(invite) as there:
                    assert await there.charter() == store.charter
        finally:
            await server.stop(None)

    asyncio.run(ask())


def test_a_port_in_use_is_reported(store: RunStore) -> None:
    async def ask() -> None:
        async with served(session_of(store)) as invite:
            await serve(api_of(session_of(store)), "127.0.0.1", invite.endpoints[0].port, None)

    with pytest.raises(Unreachable, match=r"cannot listen on 127\.0\.0\.1"):
        asyncio.run(ask())


def test_an_address_without_a_coordinator_is_reported() -> None:
    invite = Invite((Endpoint("127.0.0.1", unused_port()),), parts.RUN, parts.AUTHORITY.public)

    async def ask() -> None:
        async with connect(invite) as there:
            await there.join(parts.ADA, "ada", clock(), instance=parts.INSTANCE)

    with pytest.raises(Unreachable, match=r"no coordinator answers at 127\.0\.0\.1") as unreachable:
        asyncio.run(ask())
    assert unreachable.value.exit_code == 4


def test_an_answer_that_is_no_status_is_reported(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async def old(*_: object) -> pb.GetStatusReply:
        return pb.GetStatusReply(json="{}")

    monkeypatch.setattr("coordinator.grpc_service.Service.GetStatus", old)

    async def ask() -> None:
        async with served(session_of(store)) as invite:
            await ask_status(invite.address)

    with pytest.raises(MalformedRecord, match="another version"):
        asyncio.run(ask())
