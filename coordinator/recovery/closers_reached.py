"""Whether closers that a recovery did not reach may have closed rounds that it knows nothing of: pure."""

from __future__ import annotations

from collections.abc import Collection

from barnraise.contract.certificates import Authorities
from barnraise.core.errors import StateError
from barnraise.core.ids import PublicKey, short


def still_needed(closers: Collection[PublicKey], own: PublicKey, reached: Collection[PublicKey]) -> int:
    """How many more of `closers` have to be reached until no majority is left among the others.

    own: this program's key, whose votes are lost.
    """
    others = {key for key in closers if key not in (own, *reached)}
    return max(0, len(others) - Authorities(tuple(closers)).majority + 1)


def check_closers(closers: Collection[PublicKey], own: PublicKey, reached: Collection[PublicKey]) -> None:
    """Raises StateError where a resume may void rounds that closers are closing."""
    if needed := still_needed(closers, own, reached):
        missing = ", ".join(sorted(short(key) for key in closers if key not in (own, *reached)))
        raise StateError(
            f"the run's closers {missing} were not reached, and may have closed rounds that a resume by the"
            f" run key would void; {needed} of them must answer",
            fix="While `coordinator follow` is running there, start this again with --invite-node and the"
            " KEY@HOST:PORT that it printed. If they are lost for good: --without-closers.",
        )
