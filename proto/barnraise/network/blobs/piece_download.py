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
from barnraise.network.blobs.download_context import Room, now
from barnraise.network.blobs.piece_picker import UNKNOWN_RATE, Ask, Flight, Source, depth, next_ask, share_of
from barnraise.network.blobs.piece_protocol import HAVE, LIST, Having, Link, Listing, Nothing, Piece, Reply
from barnraise.network.blobs.piece_store import Growing
from barnraise.network.blobs.reputation import Fault, Reason, Trust

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
REDIALS = 2
"""A holder that gave something and broke off is dialled again so many times."""
NOTHING_NEW = "holds nothing that is missing"


async def gather(room: Room, wanted: Wanted, holders: Sequence[PublicKey]) -> Path:
    """Get a blob into the store, of which some pieces may be here already.

    Raises Unreachable with what each holder did, HashMismatch where the commit's own hashes do not
    fit each other, DiskFull.
    """
    gathering = _Gathering(room, wanted, [key for key in dict.fromkeys(holders) if key != room.own])
    with room.waking(gathering.changed):
        try:
            return await gathering.run()
        finally:
            gathering.end()


@dataclass
class _Holder:
    """A holder that can be asked."""

    key: PublicKey
    link: Link
    has: int = 0
    flights: dict[int, float] = field(default_factory=dict)
    answered: bool = False
    looking: bool = False
    look_at: float = 0.0
    pause: float = POLL_SECONDS


class _Gathering:
    """One blob's way here."""

    def __init__(self, room: Room, wanted: Wanted, holders: Sequence[PublicKey]) -> None:
        self._room, self._wanted = room, wanted
        self._holdings, self._standing = room.holdings, room.standing
        digest = hashlib.sha256(f"{room.own}/{wanted.blob}".encode()).digest()
        self._seed = int.from_bytes(digest[:8], "big")
        self._share = share_of(room.own, {*holders} - {wanted.owner}, wanted.count)
        self._turn = 0
        self._pieces: PieceList | None = None
        self._growing: Growing | None = None
        self._candidates = self._in_order(holders)
        self._dials: dict[PublicKey, asyncio.Task[None]] = {}
        self._here: dict[PublicKey, _Holder] = {}
        self._told = {key: "lost our trust a while ago" for key in holders if key not in self._candidates}
        self._broke: dict[PublicKey, int] = {}
        self._list_asked = -LIST_SECONDS
        self._hope = now()
        self.changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> Path:
        self._pieces = await asyncio.to_thread(self._holdings.known_list, self._wanted)
        while self._growing is None or self._growing.missing:
            self.changed.clear()
            if self._pieces is not None and self._growing is None:
                self._growing = self._holdings.grow(self._wanted, self._pieces)
                await asyncio.to_thread(self._growing.resume)
                continue
            self._meet_more()
            self._ask_for_pieces()
            self._look_again()
            self._check_hope()
            waiting = asyncio.ensure_future(self.changed.wait())
            await asyncio.wait({waiting}, timeout=POLL_SECONDS)
            waiting.cancel()
            if self._failure is not None:
                raise self._failure
        return await self._accept()

    async def _accept(self) -> Path:
        try:
            return await asyncio.to_thread(self._holdings.blobs.accept_pieces, self._wanted.blob)
        except HashMismatch:
            self._room.fault(Fault(self._wanted.owner, Reason.LIED))
            raise HashMismatch(
                f"the pieces that the commit of {short(self._wanted.owner)} lists are not its blob",
                fix="The contribution cannot be used; its owner signed what does not fit together.",
            ) from None

    def end(self) -> None:
        for dial in self._dials.values():
            dial.cancel()
        for key in list(self._here):
            self._let_go(key, "")
        if self._growing is not None:
            self._holdings.withdraw(self._wanted.blob)
            self._growing = None

    def _beside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` meanwhile. It may outlive the gathering, to read an answer to its end."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self._failure = task.exception() or self._failure

        return self._room.spawn(work, ended)

    # Who can be asked.

    def _in_order(self, holders: Sequence[PublicKey]) -> list[PublicKey]:
        """The best first, and without those that are not to be asked."""

        def rank(key: PublicKey) -> tuple[int, bool, float, bytes]:
            rate = self._standing.rate(key) or UNKNOWN_RATE
            tie = hashlib.sha256(f"{self._seed}/{key}".encode()).digest()
            return self._standing.trust(key, now()), key != self._wanted.owner, -rate, tie

        return sorted((key for key in holders if self._standing.trust(key, now()) < Trust.NONE), key=rank)

    def _meet_more(self) -> None:
        while self._candidates:
            if len(self._here) + len(self._dials) >= MAX_HOLDERS:
                asked_twice = [holder for holder in self._here.values() if holder.pause > POLL_SECONDS]
                useless = [holder.key for holder in asked_twice if not holder.has & self._missing]
                if not useless:
                    return
                self._let_go(useless[0], NOTHING_NEW)
            key = self._candidates.pop(0)
            self._dials[key] = self._beside(self._meet(key))

    async def _meet(self, key: PublicKey) -> None:
        try:
            if key in self._broke:
                await asyncio.sleep(REDIAL_SECONDS)
            link = await self._room.links.hold(key)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            self._told[key] = f"cannot be reached: {type(error).__name__} {error}".rstrip()
            self._room.fault(Fault(key, Reason.GONE))
        else:
            self._here[key] = _Holder(key, link)
        finally:
            del self._dials[key]

    def _let_go(self, key: PublicKey, told: str) -> None:
        if self._here.pop(key, None) is not None:
            self._told[key] = told
            self._room.links.release(key)

    def _blame(self, fault: Fault) -> None:
        """Leave a holder after a fault; one that gave something and broke off may come back."""
        self._room.fault(fault)
        holder = self._here.get(fault.holder)
        if holder is None:
            return
        holder.link.close()
        self._let_go(fault.holder, fault.reason.value)
        broke = self._broke.get(fault.holder, 0)
        if fault.reason is Reason.GONE and holder.has and broke < REDIALS:
            self._broke[fault.holder] = broke + 1
            self._candidates.append(fault.holder)

    def _check_hope(self) -> None:
        """Raises Unreachable when nobody is left, or nobody has had anything new for too long."""
        if self._dials or any(not h.answered or h.has & self._missing for h in self._here.values()):
            self._hope = now()
        elif not (self._here or self._candidates) or now() - self._hope > PATIENCE_SECONDS:
            raise self._unreachable()

    @property
    def _missing(self) -> int:
        return every_piece(self._wanted.count) if self._growing is None else self._growing.missing

    def _unreachable(self) -> Unreachable:
        told = self._told | dict.fromkeys(self._here, NOTHING_NEW)
        count = self._wanted.count
        have = count - bin(self._missing).count("1")
        what = "; ".join(f"{short(key)} {text}" for key, text in told.items()) or "no holder is known"
        return Unreachable(
            f"nobody gave all of the blob {short(self._wanted.blob)}:"
            f" {have} of {count} pieces are here ({what})",
            fix="It is asked for again; if this goes on, its owner left before anybody copied it.",
        )

    # What is asked.

    def _ask_for_pieces(self) -> None:
        while self._growing is not None and self._room.under_way < self._room.limit:
            self._turn += 1
            ask = next_ask(
                self._growing.missing,
                [self._source(holder) for holder in self._here.values()],
                self._wanted.owner,
                share=self._share,
                seed=self._seed,
                turn=self._turn,
                now=now(),
            )
            if not isinstance(ask, Ask):
                return
            holder = self._here[ask.holder]
            holder.flights[ask.piece] = now()
            holder.link.due += 1
            self._room.under_way += 1
            self._beside(self._get(holder, ask.piece))

    def _source(self, holder: _Holder) -> Source:
        rate = self._standing.rate(holder.key)
        return Source(
            holder.key,
            holder.has,
            tuple(Flight(piece, since) for piece, since in holder.flights.items()),
            max(0, depth(rate) - holder.link.due),
            rate,
            self._standing.trust(holder.key, now()) is not Trust.GOOD,
        )

    def _look_again(self) -> None:
        """Ask those that are not giving anything what they hold by now, and somebody for the piece list."""
        for holder in list(self._here.values()):
            if holder.looking or holder.flights:
                continue
            if holder.has and self._pieces is None:
                if now() - self._list_asked >= LIST_SECONDS:
                    self._list_asked, holder.looking = now(), True
                    self._beside(self._get_list(holder))
            elif now() >= holder.look_at:
                holder.looking = True
                self._beside(self._look(holder))

    async def _get(self, holder: _Holder, piece: int) -> None:
        try:
            reply = await self._reply(holder, piece)
        finally:
            del holder.flights[piece]
            holder.link.due -= 1
            self._room.under_way -= 1
        match reply:
            case Piece(data=data) if self._growing is not None:
                if not self._growing.put(piece, data):
                    self._blame(Fault(holder.key, Reason.JUNK))
            case Nothing():
                self._let_go(holder.key, "no longer holds it")
            case Having():
                self._blame(Fault(holder.key, Reason.LIED))

    async def _get_list(self, holder: _Holder) -> None:
        reply = await self._reply(holder, LIST)
        holder.looking = False
        match reply:
            case Listing(wire=wire) if self._pieces is None:
                try:
                    self._pieces = PieceList.opened(wire, self._wanted)
                except HashMismatch:
                    self._blame(Fault(holder.key, Reason.JUNK))
            case Nothing():
                self._let_go(holder.key, "no longer holds it")
            case Having():
                self._blame(Fault(holder.key, Reason.LIED))

    async def _look(self, holder: _Holder) -> None:
        before = holder.has
        await self._reply(holder, HAVE)
        holder.looking = False
        holder.pause = POLL_SECONDS if holder.has != before else min(2 * holder.pause, MAX_POLL_SECONDS)
        holder.look_at = now() + holder.pause

    async def _reply(self, holder: _Holder, index: int) -> Reply | Fault:
        """Ask, and take note of what the holder has; a fault is held against it at once."""
        try:
            reply, seconds = await holder.link.ask(self._wanted, index)
            holder.answered = True
        except asyncio.TimeoutError:
            fault = Fault(holder.key, Reason.STALLED)
        except MalformedBlob:
            fault = Fault(holder.key, Reason.LIED)
        except (OSError, EOFError):
            fault = Fault(holder.key, Reason.GONE)
        else:
            if isinstance(reply, Nothing):
                return reply
            if isinstance(reply, Piece):
                self._standing.measured(holder.key, len(reply.data), seconds)
            if not holder.has & ~reply.has:
                holder.has = reply.has
                return reply
            fault = Fault(holder.key, Reason.LIED)  # what was checked once stays
        finally:
            self._room.links.tidy(holder.key)
        self._blame(fault)
        return fault
