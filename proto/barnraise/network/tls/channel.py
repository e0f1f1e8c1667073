"""Opens the gRPC channel to a coordinator or closer: TLS by the run's keys, plain only on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from typing_extensions import assert_never

from barnraise.contract.endpoints import Endpoint, is_this_machine
from barnraise.core.errors import TrustError, Unreachable
from barnraise.core.ids import PublicKey, RunId
from barnraise.network.tls.certificates import ShownKey, authorities, server_name
from barnraise.network.tls.probe import (
    ForeignCertificate,
    SpeaksNeither,
    SpeaksPlainGrpc,
    Spoken,
    describe,
    probe,
)
from barnraise.network.tls.trust import Trust
from barnraise.v1 import coordinator_pb2 as pb
from barnraise.v1 import coordinator_pb2_grpc as pb_grpc

MAX_REPLY_BYTES = 4 << 20
"""Of one reply: a charter has at most 1 MiB."""
ANY_RUN = RunId("any")
"""In the name that a client asks for where it knows no run."""


class NoConnection(Unreachable):
    """No gRPC connection comes about, and not for a reason of trust."""


class NotPinned(TrustError):
    """A server answers that cannot be the run's."""


@asynccontextmanager
async def channel_to(endpoint: Endpoint, trust: Trust, seconds: float) -> AsyncIterator[grpc.aio.Channel]:
    """A connected channel to a server of a key that counts for the run.

    seconds: for each step of connecting. Raises NoConnection, NotPinned, WrongRunKey; UserError for another
    run.
    """
    async with secure_channel(endpoint, trust.run, trust.pinned) as pinned:
        if await _connects(pinned, endpoint, seconds):
            yield pinned
            return
    spoken = await probe(endpoint, trust.run, seconds)
    async with await _channel_for(spoken, endpoint, trust, seconds) as channel:
        yield channel


@asynccontextmanager
async def unpinned_channel(endpoint: Endpoint, seconds: float) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to any coordinator that answers: for an address that was given without a key.

    Raises NoConnection, NotPinned.
    """
    spoken = await probe(endpoint, ANY_RUN, seconds)
    match spoken:
        case ShownKey(key, run):
            channel = secure_channel(endpoint, run, (key,))
        case SpeaksPlainGrpc():
            channel = _plain(endpoint)
        case ForeignCertificate():
            raise _not_pinned(endpoint, spoken)
        case SpeaksNeither():
            raise _no_connection(endpoint)
        case _:
            assert_never(spoken)
    try:
        yield channel
    finally:
        await channel.close(None)


def secure_channel(endpoint: Endpoint, run: RunId, keys: Sequence[PublicKey]) -> grpc.aio.Channel:
    """A channel that accepts a server only with a certificate by one of the keys."""
    options = [
        ("grpc.ssl_target_name_override", server_name(run)),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
    ]
    return grpc.aio.secure_channel(str(endpoint), grpc.ssl_channel_credentials(authorities(keys)), options)


def _plain(endpoint: Endpoint) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(
        str(endpoint), options=[("grpc.max_receive_message_length", MAX_REPLY_BYTES)]
    )


async def _connects(channel: grpc.aio.Channel, endpoint: Endpoint, seconds: float) -> bool:
    """Raises NoConnection where nothing answers in time: a probe would wait as long again."""
    try:
        return await asyncio.wait_for(_settles(channel), seconds)
    except asyncio.TimeoutError:
        raise _no_connection(endpoint) from None


async def _settles(channel: grpc.aio.Channel) -> bool:
    """Whether it connects, once it does or fails to."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def _channel_for(spoken: Spoken, endpoint: Endpoint, trust: Trust, seconds: float) -> grpc.aio.Channel:
    """The channel to a server that the pinned keys did not fit. Raises as `channel_to`."""
    match spoken:
        case ShownKey(run=run) if run != trust.run:
            raise trust.other_run(endpoint, run)
        case ShownKey(key) if trust.admits(spoken):
            return secure_channel(endpoint, trust.run, (key,))
        case ShownKey(key):
            return await _by_charter(endpoint, key, trust, seconds)
        case SpeaksPlainGrpc() if is_this_machine(endpoint.host):
            return _plain(endpoint)
        case SpeaksPlainGrpc() | ForeignCertificate():
            raise _not_pinned(endpoint, spoken)
        case SpeaksNeither():
            raise _no_connection(endpoint)
        case _:
            assert_never(spoken)


async def _by_charter(endpoint: Endpoint, key: PublicKey, trust: Trust, seconds: float) -> grpc.aio.Channel:
    """For a client that has only an invite: the server's charter may name its key as a closer's."""
    channel = secure_channel(endpoint, trust.run, (key,))
    try:
        request = pb.GetCharterRequest(run=trust.run)
        reply = await pb_grpc.CoordinatorStub(channel).GetCharter(request, timeout=seconds)
        if trust.admits_by_charter(key, reply.signed_charter):
            return channel
    except grpc.aio.AioRpcError:
        pass
    await channel.close(None)
    raise trust.refusal(endpoint, key)


def _not_pinned(endpoint: Endpoint, spoken: SpeaksPlainGrpc | ForeignCertificate) -> NotPinned:
    problem, fix = describe(spoken)
    return NotPinned(f"at {endpoint} {problem}", fix=fix)


def _no_connection(endpoint: Endpoint) -> NoConnection:
    return NoConnection(
        f"no coordinator answers at {endpoint}",
        fix="Is the coordinator running, and is this invite its newest one?",
    )
