"""Decides whether a dataset with bad rows can be trained on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.counts import SHOWN
from coordinator.messages.dataset import bad_rows
from coordinator.reasons.dataset import DatasetReport, RenderReport


def refuse(
    report: DatasetReport, rendering: RenderReport, policy: Literal["refuse", "skip"], title: str
) -> None:
    """Raises DatasetError for the bad rows that `policy` refuses, and for a dataset without a good one.

    policy: `data.bad_rows`. title: the dataset's name, for messages.
    """
    bad = report.bad_rows + rendering.bad_rows
    first = (*report.first_bad, *rendering.first_bad)[:SHOWN]
    good = report.records - rendering.bad_rows
    if bad and (policy == "refuse" or not good):
        fixes = {row.fix for row in first}
        fix = fixes.pop() if len(fixes) == 1 else "Correct these rows."
        skip = 'Or set `bad_rows = "skip"` under [data] in run.toml.'
        raise DatasetError(
            "\n".join(bad_rows(report.rows, bad, first)),
            fix=f"{fix} {skip}" if good else fix,
        )
    if not good:
        raise DatasetError(
            f"the dataset {title} is empty{_left_out(report)}",
            fix=f"Give it at least one record{_split(report)}.",
        )
    if report.lacking == report.records:
        raise DatasetError(
            f"no row of {title} has the field that `text_field` names",
            fix="Correct or remove `text_field` under [data] in run.toml.",
        )


def _split(report: DatasetReport) -> str:
    found = [split for split, _ in report.other_splits[:1]]
    return f', or set `split = "{found[0]}"` under [data] in run.toml' if found else ""


def _left_out(report: DatasetReport) -> str:
    reasons = list(_reasons(report))
    return f": all of its {report.rows:,} rows are left out ({', '.join(reasons)})" if reasons else ""


def _reasons(report: DatasetReport) -> Iterator[str]:
    if report.blank:
        yield f"{report.blank:,} with blank text"
    if report.disliked:
        yield f"{report.disliked:,} with a label that is false"
    for split, rows in report.other_splits:
        yield f"{rows:,} of the split `{split}`"
