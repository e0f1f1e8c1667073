"""Makes the files that describe a checkpoint: its card and its held-out curve. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import HeldOut, Manifest, position_fields
from barnraise.contract.records import JoinClaim
from barnraise.contract.tip import first_position
from barnraise.core.ids import PublicKey
from coordinator.checkpoints.card import CARD, CURVE, CardFacts, Credits, card
from coordinator.checkpoints.curve import Point, held_out_svg
from coordinator.store.history import Share
from coordinator.store.run_state import RunState


def card_facts(
    run: RunState, round: int, held_out: HeldOut | None, mean: Manifest | None = None
) -> CardFacts:
    """What a card says about the checkpoint of `round`, which has that held-out loss.

    mean: the manifest of the mean of states up to there, where the card is about that.
    """
    manifest = mean or run.checkpoints[round].value
    return CardFacts(
        charter=run.charter,
        round=round,
        tokens=manifest.tokens,
        state=manifest.state,
        place=manifest.place_fields,
        held_out=held_out,
        first=run.scores[0].held_out if 0 in run.scores else None,
        curve=bool(_points(run, manifest, held_out)),
        credits=credits(_earned(run, run.history.shares(before=round)), run.claims),
        mean_of=manifest.mean_of,
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


def card_files(
    run: RunState, round: int, held_out: HeldOut | None, mean: Manifest | None = None
) -> dict[str, bytes]:
    """The files by name. The arguments are those of `card_facts`."""
    manifest = mean or run.checkpoints[round].value
    files = {CARD: card(card_facts(run, round, held_out, mean)).encode()}
    if points := _points(run, manifest, held_out):
        files[CURVE] = held_out_svg(run.spec.name, points, _means(run, manifest, held_out)).encode()
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


def _points(run: RunState, manifest: Manifest, held_out: HeldOut | None) -> list[Point]:
    """The held-out curve of the states up to the checkpoint's round."""
    end = manifest.round + manifest.averaged  # the state of a mean's round has its score already
    points = [(was.tokens, was.held_out.loss) for at, was in sorted(run.scores.items()) if at < end]
    return points if held_out is None or manifest.averaged else [*points, (manifest.tokens, held_out.loss)]


def _means(run: RunState, manifest: Manifest, held_out: HeldOut | None) -> list[Point]:
    """Those of earlier rounds that are kept, and the checkpoint where it is one."""
    kept = [(signed.value, signed.value.held_out) for at, signed in sorted(run.averages.items())]
    kept = [(each, loss) for each, loss in kept if each.round < manifest.round]
    own = [(manifest, held_out)] if manifest.averaged else []
    return [(each.tokens, loss.loss) for each, loss in (*kept, *own) if loss is not None]
