"""The client of the coordinator's gRPC service. Every reply is checked against the run's key.

Nothing else in `peer` imports grpc.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter, check_version
from barnraise.contract.fault_report import FaultReport
from barnraise.contract.invite import Invite
from barnraise.contract.records import Admission, Evaluation, Head, JoinClaim, open_record
from barnraise.core.errors import (
    BarnraiseError,
    MalformedRecord,
    RefusedError,
    Unreachable,
    UserError,
    WrongRunKey,
)
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed, open_signed, sign
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from peer.timing import TIMING, Timing
from peer.unreachable import CoordinatorUnreachable, diagnose

V = TypeVar("V")
_REPORT = "Report it to the run's maintainer."


@dataclass(frozen=True)
class Joined:
    """The coordinator's answer to a claim to join."""

    charter: Charter
    admission: Signed[Admission]
    head: Head
    ahead: Millis
    """How far the coordinator's clock is ahead of this machine's."""


class CoordinatorClient:
    """Calls to one coordinator. `connect` makes one."""

    def __init__(self, invite: Invite, stub: pb_grpc.CoordinatorStub, timing: Timing) -> None:
        self._invite, self._stub, self._timing = invite, stub, timing

    async def charter(self) -> Charter:
        """Raises Unreachable, WrongRunKey, MalformedRecord."""
        return self._check_charter((await self._get_charter()).signed_charter).value

    async def gateway(self) -> str:
        """The http(s) address of the run's archive. Raises Unreachable, WrongRunKey, MalformedRecord."""
        reply = await self._get_charter()
        self._check_charter(reply.signed_charter)
        if reply.http_url:
            return reply.http_url
        if not 0 < reply.http_port < 2**16:
            raise Unreachable(
                f"the coordinator at {self._invite.address} does not say where its archive is",
                fix="It may be an older version: ask the maintainer for an address to download from.",
            )
        return f"http://{self._invite.url_host}:{reply.http_port}"

    async def join(
        self, identity: Identity, name: str, *, credit: bool = False, renew: bool = False
    ) -> Joined:
        """Raises Unreachable, RefusedError, WrongRunKey, MalformedRecord."""
        sent = _now()
        claim = JoinClaim(run=self._invite.run, owner=identity.public, name=name, credit=credit, at=sent)
        call = self._stub.Renew if renew else self._stub.Join
        request = pb.JoinRequest(signed_claim=sign(identity, claim).wire)
        reply = await self._call(call(request, timeout=self._timing.request))
        signed = self._check_charter(reply.signed_charter)
        check_version(signed)
        charter = signed.value
        admission = open_signed(Admission, reply.signed_admission, signer=self._invite.key)
        if (admission.value.run, admission.value.peer) != (self._invite.run, identity.public):
            raise MalformedRecord(
                "the admission is for another key", fix="Report it to the run's maintainer."
            )
        head = open_record(reply.head, run=charter.run, authority=self._invite.key, now=sent).value
        if not isinstance(head, Head):
            raise MalformedRecord("the coordinator sent a record that is not a head", fix=_REPORT)
        return Joined(charter, admission, head, Millis(reply.now_ms - (sent + _now()) // 2))

    async def evaluate(self, evaluation: Signed[Evaluation]) -> str:
        """Send an evaluation; return the answer, a text for people. Raises Unreachable, RefusedError."""
        request = pb.EvaluateRequest(signed_evaluation=evaluation.wire)
        reply = await self._call(self._stub.Evaluate(request, timeout=self._timing.request))
        return str(reply.outcome)

    async def report_fault(self, report: Signed[FaultReport]) -> None:
        """Send what a rehearsal found wrong. Raises Unreachable, RefusedError."""
        request = pb.ReportFaultRequest(signed_report=report.wire)
        await self._call(self._stub.ReportFault(request, timeout=self._timing.request))

    async def _get_charter(self) -> pb.GetCharterReply:
        request = pb.GetCharterRequest(run=self._invite.run)
        return await self._call(self._stub.GetCharter(request, timeout=self._timing.request))

    def _check_charter(self, wire: bytes) -> Signed[Charter]:
        signed = open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES)
        if signed.signer != self._invite.key or signed.value.authority != self._invite.key:
            raise WrongRunKey(
                f"the coordinator at {self._invite.address} has the key {signed.signer[:8]}…,"
                f" the invite says {self._invite.key[:8]}…",
                fix="Another server has that address, or the run was created again: ask for a new invite.",
            )
        if signed.value.run != self._invite.run:
            raise UserError(
                f"the coordinator at {self._invite.address} serves the run {signed.value.run},"
                f" the invite is for {self._invite.run}",
                fix="Ask the maintainer for the invite of the run that you want.",
            )
        return signed

    async def _call(self, call: Awaitable[V]) -> V:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise await _error_of(error, self._invite, self._timing) from None


@asynccontextmanager
async def connect(invite: Invite, timing: Timing = TIMING) -> AsyncIterator[CoordinatorClient]:
    async with grpc.aio.insecure_channel(invite.address) as channel:
        yield CoordinatorClient(invite, pb_grpc.CoordinatorStub(channel), timing)


async def _error_of(error: grpc.aio.AioRpcError, invite: Invite, timing: Timing) -> BarnraiseError:
    problem, _, fix = (error.details() or "").partition("\n")
    match error.code():
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return RefusedError(f"the coordinator refused: {problem}", fix=fix or "Ask the run's maintainer.")
        case grpc.StatusCode.NOT_FOUND:
            return UserError(problem, fix=fix)
        case grpc.StatusCode.INTERNAL:
            return RefusedError(f"the coordinator failed: {problem}", fix=fix or _REPORT)
        case code:
            cause = await diagnose(invite.host, invite.port, code.name.lower(), os.environ, timing)
            return CoordinatorUnreachable(invite.address, cause)


def _now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)
