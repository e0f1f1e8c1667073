"""Gathering a blob: its pieces from whoever holds them, several at a time, each one checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barnraise.contract.pieces import PieceList, Wanted, every_piece
from barnraise.core.errors import HashMismatch, MalformedBlob, Unreachable
from barnraise.core.ids import PublicKey, short
from barnraise.network.blobs.download_context import DownloadContext, now
from barnraise.network.blobs.piece_picker import (
    UNKNOWN_RATE,
    HolderView,
    InFlight,
    Pick,
    pick_next,
    pipeline_depth,
    share_of,
)
from barnraise.network.blobs.piece_protocol import (
    HAVE,
    LIST,
    HaveReply,
    ListReply,
    NotHeldReply,
    PeerConnection,
    PieceReply,
    Reply,
)
from barnraise.network.blobs.piece_store import PartialBlob
from barnraise.network.blobs.reputation import FaultKind, HolderFault, Trust

MAX_HOLDERS = 6
"""Holders asked for one blob at a time."""
POLL_SECONDS = 0.25
MAX_POLL_SECONDS = 2.0
"""A holder that has nothing for us is asked again after a pause that doubles up to this."""
LIST_SECONDS = 2.0
"""A piece list that takes longer is asked of another holder too."""
PATIENCE_SECONDS = 10.0
"""When nobody has had anything that is missing for so long, the blob is given up for now."""
REDIAL_SECONDS = 1.0
MAX_REDIALS = 2
"""A holder that gave something and broke off is dialled again so many times."""
NOTHING_MISSING = "holds nothing that is missing"


async def download_pieces(context: DownloadContext, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
    """Get a blob into the store, of which some pieces may be here already.

    Raises Unreachable with what each holder did, HashMismatch where the commit's own hashes do not
    fit each other, DiskFull.
    """
    download = PieceDownload(context, wanted, [key for key in dict.fromkeys(holders) if key != context.own])
    with context.waking(download.changed):
        try:
            return await download.run()
        finally:
            download.end()


@dataclass
class _Holder:
    """A holder that can be asked."""

    key: PublicKey
    connection: PeerConnection
    has: int = 0
    in_flight: dict[int, float] = field(default_factory=dict)
    answered: bool = False
    polling: bool = False
    poll_at: float = 0.0
    pause: float = POLL_SECONDS


class PieceDownload:
    """One blob's way here."""

    def __init__(self, context: DownloadContext, wanted: Wanted, holders: Sequence[PublicKey]) -> None:
        self._context, self._wanted = context, wanted
        self._store, self._reputation = context.holdings, context.reputation
        digest = hashlib.sha256(f"{context.own}/{wanted.blob}".encode()).digest()
        self._seed = int.from_bytes(digest[:8], "big")
        self._share = share_of(context.own, {*holders} - {wanted.owner}, wanted.count)
        self._turn = 0
        self._pieces: PieceList | None = None
        self._partial: PartialBlob | None = None
        self._candidates = self._in_order(holders)
        self._dials: dict[PublicKey, asyncio.Task[None]] = {}
        self._connected: dict[PublicKey, _Holder] = {}
        self._outcomes = {key: "lost our trust a while ago" for key in holders if key not in self._candidates}
        self._redials: dict[PublicKey, int] = {}
        self._list_asked = -LIST_SECONDS
        self._last_useful = now()
        self.changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> Path:
        self._pieces = await asyncio.to_thread(self._store.known_list, self._wanted)
        while self._partial is None or self._partial.missing:
            self.changed.clear()
            if self._pieces is not None and self._partial is None:
                self._partial = self._store.open_partial(self._wanted, self._pieces)
                await asyncio.to_thread(self._partial.resume)
                continue
            self._connect_more()
            self._request_pieces()
            self._poll_holders()
            self._check_progress()
            waiting = asyncio.ensure_future(self.changed.wait())
            await asyncio.wait({waiting}, timeout=POLL_SECONDS)
            waiting.cancel()
            if self._failure is not None:
                raise self._failure
        return await self._accept()

    async def _accept(self) -> Path:
        try:
            return await asyncio.to_thread(self._store.blobs.accept_pieces, self._wanted.blob)
        except HashMismatch:
            self._context.fault(HolderFault(self._wanted.owner, FaultKind.BROKEN_PROMISE))
            raise HashMismatch(
                f"the pieces that the commit of {short(self._wanted.owner)} lists are not its blob",
                fix="The contribution cannot be used; its owner signed what does not fit together.",
            ) from None

    def end(self) -> None:
        for dial in self._dials.values():
            dial.cancel()
        for key in list(self._connected):
            self._drop(key, "")
        if self._partial is not None:
            self._store.close_partial(self._wanted.blob)
            self._partial = None

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` meanwhile. It may outlive the gathering, to read an answer to its end."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self._failure = task.exception() or self._failure

        return self._context.spawn(work, ended)

    # Who can be asked.

    def _in_order(self, holders: Sequence[PublicKey]) -> list[PublicKey]:
        """The best first, and without those that are not to be asked."""

        def rank(key: PublicKey) -> tuple[int, bool, float, bytes]:
            rate = self._reputation.rate(key) or UNKNOWN_RATE
            tie = hashlib.sha256(f"{self._seed}/{key}".encode()).digest()
            return self._reputation.trust(key, now()), key != self._wanted.owner, -rate, tie

        return sorted((key for key in holders if self._reputation.trust(key, now()) < Trust.NONE), key=rank)

    def _connect_more(self) -> None:
        while self._candidates:
            if len(self._connected) + len(self._dials) >= MAX_HOLDERS:
                asked_twice = [holder for holder in self._connected.values() if holder.pause > POLL_SECONDS]
                useless = [holder.key for holder in asked_twice if not holder.has & self._missing]
                if not useless:
                    return
                self._drop(useless[0], NOTHING_MISSING)
            key = self._candidates.pop(0)
            self._dials[key] = self._in_background(self._connect(key))

    async def _connect(self, key: PublicKey) -> None:
        try:
            if key in self._redials:
                await asyncio.sleep(REDIAL_SECONDS)
            connection = await self._context.pool.acquire(key)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            self._outcomes[key] = f"cannot be reached: {type(error).__name__} {error}".rstrip()
            self._context.fault(HolderFault(key, FaultKind.DISCONNECTED))
        else:
            self._connected[key] = _Holder(key, connection)
        finally:
            del self._dials[key]

    def _drop(self, key: PublicKey, told: str) -> None:
        if self._connected.pop(key, None) is not None:
            self._outcomes[key] = told
            self._context.pool.release(key)

    def _blame(self, fault: HolderFault) -> None:
        """Leave a holder after a fault; one that gave something and broke off may come back."""
        self._context.fault(fault)
        holder = self._connected.get(fault.holder)
        if holder is None:
            return
        holder.connection.close()
        self._drop(fault.holder, fault.reason.value)
        broke = self._redials.get(fault.holder, 0)
        if fault.reason is FaultKind.DISCONNECTED and holder.has and broke < MAX_REDIALS:
            self._redials[fault.holder] = broke + 1
            self._candidates.append(fault.holder)

    def _check_progress(self) -> None:
        """Raises Unreachable when nobody is left, or nobody has had anything new for too long."""
        if self._dials or any(not h.answered or h.has & self._missing for h in self._connected.values()):
            self._last_useful = now()
        elif not (self._connected or self._candidates) or now() - self._last_useful > PATIENCE_SECONDS:
            raise self._unreachable()

    @property
    def _missing(self) -> int:
        return every_piece(self._wanted.count) if self._partial is None else self._partial.missing

    def _unreachable(self) -> Unreachable:
        told = self._outcomes | dict.fromkeys(self._connected, NOTHING_MISSING)
        count = self._wanted.count
        have = count - bin(self._missing).count("1")
        what = "; ".join(f"{short(key)} {text}" for key, text in told.items()) or "no holder is known"
        return Unreachable(
            f"nobody gave all of the blob {short(self._wanted.blob)}:"
            f" {have} of {count} pieces are here ({what})",
            fix="It is asked for again; if this goes on, its owner left before anybody copied it.",
        )

    # What is asked.

    def _request_pieces(self) -> None:
        while self._partial is not None and self._context.under_way < self._context.limit:
            self._turn += 1
            ask = pick_next(
                self._partial.missing,
                [self._source(holder) for holder in self._connected.values()],
                self._wanted.owner,
                share=self._share,
                seed=self._seed,
                turn=self._turn,
                now=now(),
            )
            if not isinstance(ask, Pick):
                return
            holder = self._connected[ask.holder]
            holder.in_flight[ask.piece] = now()
            holder.connection.scheduled += 1
            self._context.under_way += 1
            self._in_background(self._fetch_piece(holder, ask.piece))

    def _source(self, holder: _Holder) -> HolderView:
        rate = self._reputation.rate(holder.key)
        return HolderView(
            holder.key,
            holder.has,
            tuple(InFlight(piece, since) for piece, since in holder.in_flight.items()),
            max(0, pipeline_depth(rate) - holder.connection.scheduled),
            rate,
            self._reputation.trust(holder.key, now()) is not Trust.GOOD,
        )

    def _poll_holders(self) -> None:
        """Ask those that are not giving anything what they hold by now, and somebody for the piece list."""
        for holder in list(self._connected.values()):
            if holder.polling or holder.in_flight:
                continue
            if holder.has and self._pieces is None:
                if now() - self._list_asked >= LIST_SECONDS:
                    self._list_asked, holder.polling = now(), True
                    self._in_background(self._fetch_list(holder))
            elif now() >= holder.poll_at:
                holder.polling = True
                self._in_background(self._poll(holder))

    async def _fetch_piece(self, holder: _Holder, piece: int) -> None:
        try:
            reply = await self._request(holder, piece)
        finally:
            del holder.in_flight[piece]
            holder.connection.scheduled -= 1
            self._context.under_way -= 1
        match reply:
            case PieceReply(data=data) if self._partial is not None:
                if not self._partial.put(piece, data):
                    self._blame(HolderFault(holder.key, FaultKind.BAD_HASH))
            case NotHeldReply():
                self._drop(holder.key, "no longer holds it")
            case HaveReply():
                self._blame(HolderFault(holder.key, FaultKind.BROKEN_PROMISE))

    async def _fetch_list(self, holder: _Holder) -> None:
        reply = await self._request(holder, LIST)
        holder.polling = False
        match reply:
            case ListReply(wire=wire) if self._pieces is None:
                try:
                    self._pieces = PieceList.opened(wire, self._wanted)
                except HashMismatch:
                    self._blame(HolderFault(holder.key, FaultKind.BAD_HASH))
            case NotHeldReply():
                self._drop(holder.key, "no longer holds it")
            case HaveReply():
                self._blame(HolderFault(holder.key, FaultKind.BROKEN_PROMISE))

    async def _poll(self, holder: _Holder) -> None:
        before = holder.has
        await self._request(holder, HAVE)
        holder.polling = False
        holder.pause = POLL_SECONDS if holder.has != before else min(2 * holder.pause, MAX_POLL_SECONDS)
        holder.poll_at = now() + holder.pause

    async def _request(self, holder: _Holder, index: int) -> Reply | HolderFault:
        """Ask, and take note of what the holder has; a fault is held against it at once."""
        try:
            reply, seconds = await holder.connection.ask(self._wanted, index)
            holder.answered = True
        except asyncio.TimeoutError:
            fault = HolderFault(holder.key, FaultKind.STALLED)
        except MalformedBlob:
            fault = HolderFault(holder.key, FaultKind.BROKEN_PROMISE)
        except (OSError, EOFError):
            fault = HolderFault(holder.key, FaultKind.DISCONNECTED)
        else:
            if isinstance(reply, NotHeldReply):
                return reply
            if isinstance(reply, PieceReply):
                self._reputation.record_transfer(holder.key, len(reply.data), seconds)
            if not holder.has & ~reply.has:
                holder.has = reply.has
                return reply
            fault = HolderFault(holder.key, FaultKind.BROKEN_PROMISE)  # what was checked once stays
        finally:
            self._context.pool.close_if_unused(holder.key)
        self._blame(fault)
        return fault
