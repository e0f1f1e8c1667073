"""The names of an archive's revisions: pure."""

from __future__ import annotations

from collections.abc import Collection

from barnraise.contract.archive import BEST, LATEST, MAIN, round_tag
from coordinator.store.promotion import Promotion

Place = tuple[int, bool]
"""A checkpoint: its round, and whether it is the mean of states up to there."""


def names_of(there: Collection[Place], promotion: Promotion | None) -> dict[Place, tuple[str, ...]]:
    """The names of each checkpoint that is there, oldest first.

    `main` is the newest one where its own checkpoint is not there. Of a state and the mean up to there, the
    state is the newer one.
    """
    names = {(round, averaged): [round_tag(round, averaged=averaged)] for round, averaged in sorted(there)}
    if promotion is not None and names:
        latest = max(names, key=lambda place: (place[0], not place[1]))
        main = (promotion.main, promotion.main_averaged)
        best = (promotion.best, promotion.best_averaged)
        for name, place in ((MAIN, main if main in names else latest), (LATEST, latest), (BEST, best)):
            for found in names.keys() & {place}:
                names[found].append(name)
    return {place: tuple(found) for place, found in names.items()}
