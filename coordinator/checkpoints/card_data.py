"""Makes the files that describe a checkpoint: its card and its held-out curve. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import HeldOut, position_fields
from barnraise.contract.records import JoinClaim
from barnraise.contract.tip import first_position
from barnraise.core.ids import PublicKey
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, Credits, card
from coordinator.checkpoints.curve import Point, held_out_svg
from coordinator.store.history import Share
from coordinator.store.run_state import RunState


def card_facts(run: RunState, round: int, held_out: HeldOut | None) -> CardFacts:
    """What a card says about the checkpoint of `round`, which has that held-out loss."""
    manifest = run.checkpoints[round].value
    return CardFacts(
        charter=run.charter,
        round=round,
        tokens=manifest.tokens,
        state=manifest.state,
        place=manifest.place_fields,
        held_out=held_out,
        first=run.scores[0].held_out if 0 in run.scores else None,
        curve=bool(_points(run, round, held_out)),
        credits=credits(_earned(run, run.history.shares(before=round)), run.claims),
    )


def base_facts(charter: Charter) -> CardFacts:
    """What a card says before the first round."""
    return CardFacts(
        charter=charter,
        round=0,
        tokens=0,
        state=charter.genesis,
        place=position_fields(first_position(charter)),
        held_out=None,
        first=None,
        curve=False,
        credits=Credits((), 0),
    )


def card_files(run: RunState, round: int, held_out: HeldOut | None) -> dict[str, bytes]:
    """The files by name, for the checkpoint of `round` with that held-out loss."""
    files = {CARD: card(card_facts(run, round, held_out)).encode()}
    if points := _points(run, round, held_out):
        files[CURVE] = held_out_svg(run.spec.name, points).encode()
    return files


def credits(shares: Mapping[PublicKey, Share], claims: Mapping[PublicKey, JoinClaim]) -> Credits:
    """Who a card names: volunteers who consent, by the name in their newest claim.

    claims: the newest of each owner. A volunteer who joins again without consent is no longer named.
    """
    agreed = {owner: claim.name for owner, claim in claims.items() if claim.credit and claim.name}
    named = [(agreed[owner], share) for owner, share in shares.items() if owner in agreed]
    named.sort(key=lambda entry: (-entry[1].tokens, entry[0]))
    return Credits(tuple(named), len(shares) - len(named))


def _earned(run: RunState, shares: Mapping[PublicKey, Share]) -> dict[PublicKey, Share]:
    """The shares of keys that are trusted, or whose work audits have counted, and that did no harm."""
    found = {key: run.standing(key) for key in shares}
    counted = {key for key, each in found.items() if each.level == "trusted" or each.work > 0}
    harmful = {key for key, each in found.items() if each.level in ("suspended", "banned")}
    return {key: share for key, share in shares.items() if key in counted - harmful}


def _points(run: RunState, round: int, held_out: HeldOut | None) -> list[Point]:
    """The held-out curve up to `round`."""
    points = [(was.tokens, was.held_out.loss) for at, was in sorted(run.scores.items()) if at < round]
    return points if held_out is None else [*points, (run.checkpoints[round].value.tokens, held_out.loss)]
