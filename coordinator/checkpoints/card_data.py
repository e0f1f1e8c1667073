"""What goes beside a checkpoint's weights to tell about it: its card and its held-out curve."""

from __future__ import annotations

from barnraise.contract.manifest import HeldOut
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, card
from coordinator.checkpoints.credits import credits
from coordinator.checkpoints.curve import Point, held_out_svg
from coordinator.store.run_store import Book


def card_facts(book: Book, round: int, held_out: HeldOut | None) -> CardFacts:
    """What the book knows about the checkpoint of `round`, which has that held-out loss."""
    manifest = book.checkpoints[round].value
    return CardFacts(
        charter=book.charter,
        round=round,
        tokens=manifest.tokens,
        state=manifest.state,
        previous=manifest.previous,
        held_out=held_out,
        first=book.scores[0].held_out if 0 in book.scores else None,
        curve=bool(_points(book, round, held_out)),
        credits=credits(book.history.shares(before=round), book.claims),
    )


def about(book: Book, round: int, held_out: HeldOut | None) -> dict[str, bytes]:
    """The files by name, for the checkpoint of `round` with that held-out loss."""
    files = {CARD: card(card_facts(book, round, held_out)).encode()}
    if points := _points(book, round, held_out):
        files[CURVE] = held_out_svg(book.charter.run, points).encode()
    return files


def _points(book: Book, round: int, held_out: HeldOut | None) -> list[Point]:
    """The held-out curve up to `round`."""
    points = [(was.tokens, was.held_out.loss) for at, was in sorted(book.scores.items()) if at < round]
    return points if held_out is None else [*points, (book.checkpoints[round].value.tokens, held_out.loss)]
