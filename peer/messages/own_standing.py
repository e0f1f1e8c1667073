"""What the log says of a volunteer's own key, and why."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.audit_figures import MILLION, NANO, Figures
from peer.volunteer.own_standing import OwnStanding

WHAT_TO_CHECK = "check this machine's memory, try `--device cpu`, and compare `peer --version` with others"


def own_standing_message(found: OwnStanding) -> str:
    """One line, with the figures of audits where these are the cause."""
    why = f": {found.note}" if found.note else ""
    match found.level:
        case "suspended" if found.by_order:
            return f"the maintainer has suspended this key, and its contributions weigh nothing{why}"
        case "suspended":
            return (
                f"this key is suspended, and its contributions weigh nothing: {_harm(found)}:"
                f" {WHAT_TO_CHECK}. It recovers by going on: audits that find no harm put it on probation"
            )
        case "probation" if found.by_order:
            return f"this key is on probation by the maintainer's order{why}"
        case "probation":
            return (
                "this key is no longer suspended: audits of its last contributions found no harm"
                f" ({_changes(found.figures)}). It begins again on probation"
            )
        case "trusted":
            return f"the maintainer trusts this key{why}"
        case "banned":
            return f"this key is banned{why}"
        case _:
            assert_never(found.level)


def _harm(found: OwnStanding) -> str:
    return (
        f"{found.harmful} of its last {len(found.figures)} audited contributions raised the loss of samples"
        " that nobody trained on, pointed elsewhere than those of others and gained less than half as much,"
        f" or repeated others ({_changes(found.figures)})"
    )


def _changes(figures: tuple[Figures, ...]) -> str:
    return ", ".join(f"round {each.round}: {_finding(each)}" for each in figures)


def _finding(figures: Figures) -> str:
    match figures.finding:
        case "tried":
            found = f"{figures.change / NANO:+.4f}, usual {figures.usual / NANO:+.4f}"
            if figures.distance <= 0:
                return found
            cosine, usual = figures.alignment / MILLION, figures.usual_alignment / MILLION
            return f"{found}, cosine {cosine:+.3f}, usual {usual:+.3f}"
        case "copy":
            return "a copy of another"
        case "replay":
            return "a copy of an earlier one"
        case "empty":
            return "only zeros"
        case _:
            assert_never(figures.finding)
