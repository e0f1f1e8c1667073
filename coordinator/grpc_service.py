"""The coordinator's gRPC service and the client of its status. It only translates to `CoordinatorApi`.

Nothing else in `coordinator` imports grpc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from barnraise.contract.audit_task import MAX_AUDIT_CALL_BYTES, AuditCall
from barnraise.contract.endpoints import Endpoint, parse_endpoint
from barnraise.contract.fault_report import MAX_REPORT_BYTES, FaultReport
from barnraise.contract.invite import Invite
from barnraise.contract.protocol import ClaimantDoesNotFit
from barnraise.contract.records import MAX_EVALUATION_BYTES, Evaluation, JoinClaim, open_claim
from barnraise.contract.status import RunStatus
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
)
from barnraise.core.signed import Signed, open_signed
from barnraise.network.tls.certificates import ServerCertificate
from barnraise.network.tls.channel import channel_to, unpinned_channel
from barnraise.network.tls.trust import Trust
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc
from coordinator.call_limits import LIMITS, CallLimits
from coordinator.grpc_guard import AddressLimit, CallGuard, Context, TooManyCalls
from coordinator.guarded_port import GuardedPort
from coordinator.rounds.coordinator_api import CoordinatorApi
from coordinator.timing import TIMING, Timing

MAX_METADATA_BYTES = 8192
"""Headers of a call."""
Owned = TypeVar("Owned", JoinClaim, Evaluation, FaultReport, AuditCall)

_CODES: list[tuple[type[BarnraiseError], grpc.StatusCode]] = [
    (TooManyCalls, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (KeyInUse, grpc.StatusCode.ALREADY_EXISTS),
    (KeyBanned, grpc.StatusCode.FAILED_PRECONDITION),
    (RefusedError, grpc.StatusCode.PERMISSION_DENIED),
    (TrustError, grpc.StatusCode.UNAUTHENTICATED),
    (UserError, grpc.StatusCode.NOT_FOUND),
    (NetworkError, grpc.StatusCode.UNAVAILABLE),
]


class Service(pb_grpc.CoordinatorServicer):
    """Opens the records in requests, calls the API, and turns its errors into status codes."""

    def __init__(self, api: CoordinatorApi, guard: CallGuard) -> None:
        self._api, self._guard = api, guard

    async def GetCharter(self, request: pb.GetCharterRequest, context: Context) -> pb.GetCharterReply:
        return pb.GetCharterReply(signed_charter=self._api.charter(), head=self._api.head())

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        try:
            claim = self._own(open_claim(request.signed_claim))
            if not self._api.knows(claim.signer):
                self._guard.check_new_key(context.peer())
            joined = await self._api.join(claim)
            self._guard.admitted(context.peer())
        except ClaimantDoesNotFit as error:
            self._api.note_misfit(error.reason)
            await _abort(context, error)
        except BarnraiseError as error:
            await _abort(context, error)
        return pb.JoinReply(
            signed_charter=joined.charter,
            signed_admission=joined.admission,
            head=joined.head,
        )

    async def Renew(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        return await self.Join(request, context)

    async def Evaluate(self, request: pb.EvaluateRequest, context: Context) -> pb.EvaluateReply:
        try:
            wire = request.signed_evaluation
            outcome = self._api.evaluate(
                self._own(open_signed(Evaluation, wire, signer=None, limit=MAX_EVALUATION_BYTES))
            )
        except BarnraiseError as error:
            await _abort(context, error)
        return pb.EvaluateReply(outcome=outcome)

    async def Audit(self, request: pb.AuditRequest, context: Context) -> pb.AuditReply:
        try:
            call = open_signed(AuditCall, request.signed_call, signer=None, limit=MAX_AUDIT_CALL_BYTES)
            answer = await self._api.audit(self._own(call, is_auditor=self._api.vouches_for(call.signer)))
        except BarnraiseError as error:
            await _abort(context, error)
        return pb.AuditReply(signed_answer=answer)

    async def ReportFault(self, request: pb.ReportFaultRequest, context: Context) -> pb.ReportFaultReply:
        try:
            wire = request.signed_report
            report = open_signed(FaultReport, wire, signer=None, limit=MAX_REPORT_BYTES)
            self._api.report_fault(self._own(report))
        except BarnraiseError as error:
            await _abort(context, error)
        return pb.ReportFaultReply()

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusReply:
        return pb.GetStatusReply(json=self._api.status().model_dump_json())

    def _own(self, signed: Signed[Owned], *, is_auditor: bool = False) -> Signed[Owned]:
        """is_auditor: as of `CallGuard.check_key`.

        Raises RefusedError where the record names another key than it is signed by; TooManyCalls."""
        if signed.signer != signed.value.owner:
            raise RefusedError(
                f"this {type(signed.value).__name__} is signed by another key than it names",
                fix="Update Barnraise.",
            )
        self._guard.check_key(signed.signer, is_auditor=is_auditor)
        return signed


async def _abort(context: Context, error: BarnraiseError) -> NoReturn:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    await context.abort(code, f"{error.problem}\n{error.fix}")


@dataclass(frozen=True)
class GrpcServer:
    """A running service."""

    _server: grpc.aio.Server
    _guarded: GuardedPort

    async def stop(self, grace: float | None) -> None:
        """grace: seconds for calls that are being answered."""
        await self._server.stop(grace)
        await self._guarded.stop()


async def serve(
    api: CoordinatorApi,
    host: str,
    port: int,
    certificate: ServerCertificate | None,
    limits: CallLimits = LIMITS,
) -> tuple[GrpcServer, int]:
    """Start to serve, with the standard services for health and reflection. Port 0 takes a free one.

    certificate: for TLS; None: without. Returns the server and its port. Raises Unreachable when the port is
    not available.
    """
    guard = CallGuard(limits)
    guarded = GuardedPort(limits, guard.is_known)
    guard.group_of = guarded.group_of
    port = guarded.bind(host, port)
    server = grpc.aio.server(options=_options(limits), interceptors=[AddressLimit(guard)])
    pb_grpc.add_CoordinatorServicer_to_server(Service(api, guard), server)
    checks = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    name = pb.DESCRIPTOR.services_by_name["Coordinator"].full_name
    reflection.enable_server_reflection((name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    behind = _bind(server, "127.0.0.1:0", certificate)
    await server.start()
    for service in ("", name):
        await checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    await guarded.pass_to(behind)
    return GrpcServer(server, guarded), port


def _options(limits: CallLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.streams),
        ("grpc.server_handshake_timeout_ms", round(1000 * limits.handshake_seconds)),
        ("grpc.max_connection_idle_ms", round(1000 * limits.idle_seconds)),
        ("grpc.so_reuseport", 0),
    ]


def _bind(server: grpc.aio.Server, address: str, certificate: ServerCertificate | None) -> int:
    """Returns the port. Raises RuntimeError."""
    if certificate is None:
        return server.add_insecure_port(address)
    pair = (certificate.private_key, certificate.certificate)
    return server.add_secure_port(address, grpc.ssl_server_credentials([pair]))


@dataclass(frozen=True)
class JoinReply:
    """A coordinator's answer to a claim, unchecked."""

    charter: bytes
    admission: bytes
    head: bytes


async def ask_join(
    endpoint: Endpoint, claim: Signed[JoinClaim], trust: Trust, timing: Timing = TIMING
) -> JoinReply:
    """Claim to take part. Raises Unreachable, NotPinned, WrongRunKey."""
    async with channel_to(endpoint, trust, timing.status) as channel:
        try:
            reply = await pb_grpc.CoordinatorStub(channel).Join(
                pb.JoinRequest(signed_claim=claim.wire), timeout=timing.status
            )
        except grpc.aio.AioRpcError as error:
            raise Unreachable(_cause(error), fix="Try another address of the run.") from None
    return JoinReply(reply.signed_charter, reply.signed_admission, reply.head)


def _cause(error: grpc.aio.AioRpcError) -> str:
    """Of a failed call: what the other side says, or the end of gRPC's own account of a connection."""
    said = (error.details() or error.code().name.lower()).partition("\n")[0]  # then the fix
    return said.rpartition(": ")[2] if error.code() is grpc.StatusCode.UNAVAILABLE else said


async def ask_first(invite: Invite, timing: Timing = TIMING) -> RunStatus:
    """The status at the first endpoint that answers as the run does. Raises Unreachable with all causes."""
    causes: list[str] = []
    for endpoint in invite.endpoints:
        try:
            async with channel_to(endpoint, Trust.of(invite), timing.status) as channel:
                return await _status(channel, str(endpoint), timing)
        except (Unreachable, TrustError) as error:
            if len(invite.endpoints) == 1:
                raise
            causes.append(error.problem)
    raise Unreachable("; ".join(causes), fix="Is the coordinator running, and is this invite its newest one?")


async def ask_status(address: str, timing: Timing = TIMING) -> RunStatus:
    """The status of the run at `host:port` with any key. Raises UserError, Unreachable, TrustError."""
    try:
        endpoint = parse_endpoint(address)
    except ValueError as error:
        raise UserError(
            f"{address[:100]!r} is no address: {error}",
            fix="Give its host:port; `coordinator serve` prints them in the invite.",
        ) from None
    async with unpinned_channel(endpoint, timing.status) as channel:
        return await _status(channel, address, timing)


async def _status(channel: grpc.aio.Channel, address: str, timing: Timing) -> RunStatus:
    try:
        reply = await pb_grpc.CoordinatorStub(channel).GetStatus(pb.GetStatusRequest(), timeout=timing.status)
    except grpc.aio.AioRpcError as error:
        raise Unreachable(
            f"no coordinator answers at {address} ({error.code().name.lower()})",
            fix="Give its host:port; `coordinator serve` prints them in the invite.",
        ) from None
    try:
        return RunStatus.model_validate_json(reply.json)
    except ValidationError:
        raise MalformedRecord(
            f"{address} answers with another version's status",
            fix="Compare `coordinator --version` on both sides.",
        ) from None
