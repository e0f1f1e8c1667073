"""Limits the calls of the gRPC service: by address before any work, by key once a signature is checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from barnraise.core.errors import NetworkError
from barnraise.core.ids import PublicKey
from barnraise.core.places import SHARED
from barnraise.core.recent import Recent
from coordinator.call_limits import CallLimits, CallRates
from coordinator.messages.calls import too_many_message
from coordinator.reasons.calls import TooMany

Context = grpc.aio.ServicerContext[Any, Any]
KNOWN = 8192
"""Address groups of admitted keys that are remembered."""


class TooManyCalls(NetworkError):
    """A call is refused by `reason`, and may be repeated later."""

    def __init__(self, reason: TooMany) -> None:
        problem, fix = too_many_message(reason)
        super().__init__(problem, fix=fix)
        self.reason = reason


class CallGuard:
    """What the service asks before it does work for a caller."""

    def __init__(self, limits: CallLimits, now: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._now = limits, now
        self._rates = CallRates(limits)
        self._known: Recent[str] = Recent(KNOWN)
        self.group_of: Callable[[str], str] = lambda _: SHARED
        """The address group of a caller, by gRPC's name for it."""

    def is_known(self, group: str) -> bool:
        """Whether an admitted key called from there lately."""
        return group in self._known

    def check_address(self, peer: str) -> None:
        """Raises TooManyCalls."""
        self._check(self._rates.call(self.group_of(peer), self._now()))

    def check_key(self, key: PublicKey, *, is_auditor: bool = False) -> None:
        """is_auditor: whether it asks for a round to audit and may. Raises TooManyCalls."""
        take = self._rates.of_auditor if is_auditor else self._rates.signed
        self._check(take(key, self._now()))

    def check_new_key(self, peer: str) -> None:
        """Raises TooManyCalls."""
        self._check(self._rates.claim_of_new_key(self.group_of(peer), self._now()))

    def admitted(self, peer: str) -> None:
        """A key was admitted that called from there."""
        self._known.add(self.group_of(peer))

    @staticmethod
    def _check(reason: TooMany | None) -> None:
        if reason is not None:
            raise TooManyCalls(reason)


class AddressLimit(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Checks the caller's address before any call, and ends calls that stream after a while."""

    def __init__(self, guard: CallGuard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method
            return handler
        coders = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), *coders)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream), *coders)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._stream(handler.stream_stream), *coders)
        return handler

    def _unary(self, answer: Any) -> Any:
        async def limited(request: Any, context: Context) -> Any:
            await self._check(context)
            return await answer(request, context)

        return limited

    def _stream(self, answer: Any) -> Any:
        async def limited(request: Any, context: Context) -> None:
            await self._check(context)
            seconds = self._guard.limits.stream_seconds
            try:
                await asyncio.wait_for(_written(answer(request, context), context), seconds)
            except asyncio.TimeoutError:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"a stream lasts {seconds:.0f} s here")

        return limited

    async def _check(self, context: Context) -> None:
        try:
            self._guard.check_address(context.peer())
        except TooManyCalls as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{error.problem}\n{error.fix}")


async def _written(replies: Any, context: Context) -> None:
    """Send what a handler yields, or wait for one that sends by itself."""
    if not hasattr(replies, "__aiter__"):
        await replies
        return
    async for reply in replies:
        await context.write(reply)
