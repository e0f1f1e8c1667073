"""Makes the files that describe a checkpoint: its card and its held-out curve."""

from __future__ import annotations

from barnraise.contract.manifest import HeldOut
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, card
from coordinator.checkpoints.credits import credits
from coordinator.checkpoints.curve import Point, held_out_svg
from coordinator.store.run_state import RunState


def card_facts(run: RunState, round: int, held_out: HeldOut | None) -> CardFacts:
    """What a card says about the checkpoint of `round`, which has that held-out loss."""
    manifest = run.checkpoints[round].value
    return CardFacts(
        charter=run.charter,
        round=round,
        tokens=manifest.tokens,
        state=manifest.state,
        previous=manifest.previous,
        held_out=held_out,
        first=run.scores[0].held_out if 0 in run.scores else None,
        curve=bool(_points(run, round, held_out)),
        credits=credits(run.history.shares(before=round), run.claims),
    )


def card_files(run: RunState, round: int, held_out: HeldOut | None) -> dict[str, bytes]:
    """The files by name, for the checkpoint of `round` with that held-out loss."""
    files = {CARD: card(card_facts(run, round, held_out)).encode()}
    if points := _points(run, round, held_out):
        files[CURVE] = held_out_svg(run.spec.name, points).encode()
    return files


def _points(run: RunState, round: int, held_out: HeldOut | None) -> list[Point]:
    """The held-out curve up to `round`."""
    points = [(was.tokens, was.held_out.loss) for at, was in sorted(run.scores.items()) if at < round]
    return points if held_out is None else [*points, (run.checkpoints[round].value.tokens, held_out.loss)]
