"""The client of the coordinator's gRPC service. Every reply is checked against the run's key.

Nothing else in `peer` imports grpc.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import grpc

from barnraise.contract.audit_task import MAX_AUDIT_ANSWER_BYTES, AuditAnswer, AuditCall
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.endpoints import HTTP_PORT, Endpoint, web_host
from barnraise.contract.fault_report import FaultReport
from barnraise.contract.invite import Invite
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import (
    Admission,
    Evaluation,
    Head,
    JoinClaim,
    check_admission,
    open_record,
)
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import (
    BarnraiseError,
    KeyBanned,
    KeyInUse,
    MalformedRecord,
    NetworkError,
    RefusedError,
    TrustError,
    Unreachable,
    UserError,
    WrongRunKey,
)
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.plain_text import one_line
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.network.tls.channel import NoConnection, channel_to
from barnraise.network.tls.trust import Trust
from barnraise.runtime.run_clock import RunClock
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from peer.timing import TIMING, Timing
from peer.unreachable import CoordinatorUnreachable, TooManyCalls, diagnose

V = TypeVar("V")
log = logging.getLogger("peer")
ELSEWHERE = (NetworkError, RefusedError, TrustError, UserError)
"""Errors of an address where the run's coordinator is not, or no longer."""
MAX_WORDS = 200
"""Characters of the coordinator's that an error shows."""
_REPORT = "Report it to the run's maintainer."


@dataclass(frozen=True)
class Joined:
    """The coordinator's answer to a claim to join."""

    charter: Charter
    admission: Signed[Admission]
    signed_head: Signed[Head]

    @property
    def head(self) -> Head:
        """The head at joining."""
        return self.signed_head.value


class CoordinatorClient:
    """Calls to one coordinator, or to a closer, which answers for it. `connect` makes one."""

    def __init__(
        self,
        invite: Invite,
        endpoint: Endpoint,
        stub: pb_grpc.CoordinatorStub,
        timing: Timing,
        keys: KeysInForce | None = None,
    ) -> None:
        """keys: those in force, where more is known than the invite and the charter say."""
        self._invite, self.endpoint, self._stub, self._timing = invite, endpoint, stub, timing
        self._keys = keys

    async def charter(self) -> Charter:
        """Raises Unreachable, WrongRunKey, MalformedRecord."""
        return self._check_charter((await self._get_charter()).signed_charter).value

    async def gateway(self) -> str:
        """The http(s) address of the run's archive. Raises Unreachable, WrongRunKey, MalformedRecord."""
        found = archive_address((await self.head()).value, self.endpoint)
        if found is None:
            raise Unreachable(
                f"the coordinator at {self.endpoint} does not say where its archive is",
                fix="It may be an older version: ask the maintainer for an address to download from.",
            )
        return found

    async def head(self) -> Signed[Head]:
        """The newest head. Raises Unreachable, WrongRunKey, MalformedRecord."""
        reply = await self._get_charter()
        return self._open_head(reply.head, self._check_charter(reply.signed_charter).value)

    async def clock(self) -> RunClock:
        """The run's clock. Raises Unreachable, WrongRunKey, MalformedRecord."""
        clock = RunClock()
        sent = clock.elapsed()
        head = await self.head()
        clock.head_received(Millis(head.value.at), sent)
        return clock

    async def join(
        self,
        identity: Identity,
        name: str,
        clock: RunClock,
        *,
        instance: str,
        credit: bool = False,
        renew: bool = False,
    ) -> Joined:
        """clock: the run's, which the answer measures again. instance: as `instance_number`.

        Raises KeyInUse, Unreachable, RefusedError, WrongRunKey, MalformedRecord.
        """
        sent, now = clock.elapsed(), clock()
        run, owner = self._invite.run, identity.public
        claim = JoinClaim(
            run=run, owner=owner, instance=instance, name=name, credit=credit,
            invitation=self._invite.invitation, at=now,
        )  # fmt: skip
        call = self._stub.Renew if renew else self._stub.Join
        request = pb.JoinRequest(signed_claim=sign(identity, claim).wire)
        reply = await self._call(call(request, timeout=self._timing.request))
        charter = self._check_charter(reply.signed_charter).value
        admission = open_signed(Admission, reply.signed_admission, signer=None)
        head = self._open_head(reply.head, charter)
        signers = self._signers(charter).introduced(head.value.successors, run)
        check_admission(admission.text, owner, run=run, signers=signers, now=now)
        clock.head_received(Millis(head.value.at), sent)
        return Joined(charter, admission, head)

    async def evaluate(self, evaluation: Signed[Evaluation]) -> str:
        """Send an evaluation; return the answer, a text for people. Raises Unreachable, RefusedError."""
        request = pb.EvaluateRequest(signed_evaluation=evaluation.wire)
        reply = await self._call(self._stub.Evaluate(request, timeout=self._timing.request))
        return str(reply.outcome)

    async def audit(self, call: Signed[AuditCall], run_key: PublicKey) -> AuditAnswer:
        """Ask for a round to audit, with the report on the one before; the call waits for one for a while.

        run_key: the one in force. Raises Unreachable, RefusedError, MalformedRecord, BadSignature.
        """
        request = pb.AuditRequest(signed_call=call.wire)
        reply = await self._call(self._stub.Audit(request, timeout=self._timing.audit_call))
        wire, limit = reply.signed_answer, MAX_AUDIT_ANSWER_BYTES
        answer = open_signed(AuditAnswer, wire, signer=run_key, limit=limit).value
        if (answer.run, answer.owner) != (call.value.run, call.signer):
            raise MalformedRecord("the coordinator's answer about audits is another one's", fix=_REPORT)
        return answer

    async def report_fault(self, report: Signed[FaultReport]) -> None:
        """Send what a rehearsal found wrong. Raises Unreachable, RefusedError."""
        request = pb.ReportFaultRequest(signed_report=report.wire)
        await self._call(self._stub.ReportFault(request, timeout=self._timing.request))

    async def _get_charter(self) -> pb.GetCharterReply:
        request = pb.GetCharterRequest(run=self._invite.run)
        return await self._call(self._stub.GetCharter(request, timeout=self._timing.request))

    def _signers(self, charter: Charter) -> Signers:
        """Whose heads and admissions count."""
        return (KeysInForce.of(charter) if self._keys is None else self._keys).signers

    def _open_head(self, wire: bytes, charter: Charter) -> Signed[Head]:
        signed = open_record(wire, run=self._invite.run, signers=self._signers(charter), now=Millis(0))
        if not isinstance(signed.value, Head):
            raise MalformedRecord("the coordinator sent a record that is not a head", fix=_REPORT)
        return Signed(signed.value, signed.signer, signed.wire)

    def _check_charter(self, wire: bytes) -> Signed[Charter]:
        signed = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES)
        if signed.signer != self._invite.key or signed.value.authority != self._invite.key:
            raise WrongRunKey(
                f"the coordinator at {self.endpoint} has the key {signed.signer[:8]}…,"
                f" the invite says {self._invite.key[:8]}…",
                fix="Another server has that address, or the run was created again: ask for a new invite.",
            )
        if signed.value.run != self._invite.run:
            raise UserError(
                f"the coordinator at {self.endpoint} serves the run {signed.value.run},"
                f" the invite is for {self._invite.run}",
                fix="Ask the maintainer for the invite of the run that you want.",
            )
        return signed

    async def _call(self, call: Awaitable[V]) -> V:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise await _error_of(error, self.endpoint, self._timing) from None


@asynccontextmanager
async def connect(
    invite: Invite,
    timing: Timing = TIMING,
    more: Sequence[Endpoint] = (),
    keys: KeysInForce | None = None,
) -> AsyncIterator[CoordinatorClient]:
    """A client of the first endpoint that answers with the run's charter: of the invite, then of `more`.

    keys: as `CoordinatorClient` takes them. A single endpoint is connected to, and not asked beforehand.
    Raises Unreachable with the cause of each; of a single one also NotPinned, WrongRunKey.
    """
    endpoints = tuple(dict.fromkeys((*invite.endpoints, *more)))
    async with AsyncExitStack() as stack:
        yield await _first_that_answers(invite, endpoints, timing, stack, keys)


async def _first_that_answers(
    invite: Invite,
    endpoints: Sequence[Endpoint],
    timing: Timing,
    stack: AsyncExitStack,
    keys: KeysInForce | None,
) -> CoordinatorClient:
    """Asks one after the other, and the next one too after `timing.stagger` or a failure."""

    async def connected(endpoint: Endpoint) -> CoordinatorClient:
        channel = await stack.enter_async_context(_channel(endpoint, Trust.of(invite, keys), timing))
        return CoordinatorClient(invite, endpoint, pb_grpc.CoordinatorStub(channel), timing, keys)

    async def answering(endpoint: Endpoint) -> CoordinatorClient:
        client = await connected(endpoint)
        await client.charter()
        return client

    if len(endpoints) == 1:
        return await connected(endpoints[0])
    causes: list[BarnraiseError] = []
    waiting, asked = list(endpoints[::-1]), set[asyncio.Task[CoordinatorClient]]()
    try:
        while waiting or asked:
            if waiting:
                asked.add(asyncio.create_task(answering(waiting.pop())))
            patience = timing.stagger if waiting else None
            done, asked = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    return task.result()
                except ELSEWHERE as error:
                    log.debug("%s", error.problem)
                    causes.append(error)
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)  # they use the stack
    raise Unreachable(
        "; ".join(error.problem for error in causes),
        fix="Check your connection; ask the maintainer for a new invite.",
    )


@asynccontextmanager
async def _channel(endpoint: Endpoint, trust: Trust, timing: Timing) -> AsyncIterator[grpc.aio.Channel]:
    """As `channel_to`. Raises CoordinatorUnreachable with the cause, NotPinned, WrongRunKey."""
    async with AsyncExitStack() as stack:
        try:
            channel = await stack.enter_async_context(channel_to(endpoint, trust, timing.request))
        except NoConnection:
            cause = await diagnose(endpoint.host, endpoint.port, "unavailable", os.environ, timing)
            raise CoordinatorUnreachable(str(endpoint), cause) from None
        yield channel


def archive_address(head: Head, asked: Endpoint) -> str | None:
    """Where the archive is served, by a head that the server at `asked` signed; None where it says nothing.

    A gateway on a port of the coordinator's own machine is called at the host that answered, which may be
    another one than the head names, as through a tunnel.
    """
    for gateway in head.gateways:
        if web_host(gateway) == asked.host:
            return gateway
    for gateway in head.gateways[:1]:
        parts = urlsplit(gateway)
        own = parts.scheme == "http" and web_host(gateway) in {known.host for known in head.endpoints}
        return f"http://{asked.url_host}:{parts.port or HTTP_PORT}" if own else gateway
    return None


async def _error_of(error: grpc.aio.AioRpcError, endpoint: Endpoint, timing: Timing) -> BarnraiseError:
    problem, _, fix = (error.details() or "").partition("\n")
    match error.code():
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return RefusedError(f"the coordinator refused: {problem}", fix=fix or "Ask the run's maintainer.")
        case grpc.StatusCode.FAILED_PRECONDITION:
            return KeyBanned(problem, fix=fix)
        case grpc.StatusCode.ALREADY_EXISTS:
            return KeyInUse(problem, fix=fix)
        case grpc.StatusCode.NOT_FOUND:
            return UserError(problem, fix=fix)
        case grpc.StatusCode.INTERNAL:
            return RefusedError(f"the coordinator failed: {problem}", fix=fix or _REPORT)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return CoordinatorUnreachable(str(endpoint), TooManyCalls(one_line(problem)[:MAX_WORDS]))
        case code:
            cause = await diagnose(endpoint.host, endpoint.port, code.name.lower(), os.environ, timing)
            return CoordinatorUnreachable(str(endpoint), cause)
