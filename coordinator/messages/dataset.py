"""Renders what the dataset builder finds out."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_never

from barnraise.core.units import format_count
from coordinator.reasons.dataset import (
    BadRow,
    BeyondPositions,
    BuildStep,
    BuiltDataset,
    DatasetBuilt,
    DatasetReport,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
    RenderReport,
)

SHOWN_NAMES = 12
"""Shapes and unused fields that a report names."""


def build_step(step: BuildStep) -> str:
    """A line of the dataset builder's progress."""
    match step:
        case ReadingDataset(source):
            return f"reading {source}"
        case RecordsTokenized(records):
            return f"{records:,} records tokenized"
        case NothingHeldOut():
            return "nothing is held out: the dataset has too few different records"
        case BeyondPositions(longest_document, positions):
            return (
                f"the longest document has {longest_document:,} tokens, and the model was trained on "
                f"{positions:,} positions: it may learn little from what lies beyond"
            )
        case DatasetBuilt(records, samples, trained_tokens):
            return f"{records:,} records in {samples:,} samples, {trained_tokens:,} trained tokens"
        case _:
            assert_never(step)


def dataset_lines(built: BuiltDataset) -> list[str]:
    """The reports of a dataset for a log: each line with what it is about, or as a part of the one before."""
    reports = {"rows": dataset_report(built.report), "chats": render_report(built.rendering)}
    return [
        line if line.startswith(" ") else f"{about}: {line}"
        for about, lines in reports.items()
        for line in lines
    ]


def dataset_report(report: DatasetReport) -> list[str]:
    """What the rows hold, and what of them is not trained on: a line for each."""
    lines = [_shapes(report)]
    if report.lacking:
        lines.append(f"{format_count(report.lacking, 'row')} without the field that data.text_field names")
    if report.blank:
        lines.append(f"{format_count(report.blank, 'row')} left out: blank text")
    if report.disliked:
        lines.append(f"{format_count(report.disliked, 'row')} left out: the label of the answer is false")
    lines += [f"{format_count(rows, 'row')} left out: split `{split}`" for split, rows in report.other_splits]
    if report.untrained:
        lines.append(
            f"{format_count(report.untrained, 'message')} of the assistant not trained on:"
            " of weight 0, or part of a prompt"
        )
    lines += [_unused(name, rows) for name, rows in report.unused[:SHOWN_NAMES]]
    if len(report.unused) > SHOWN_NAMES:
        lines.append(f"{format_count(len(report.unused) - SHOWN_NAMES, 'more field')} not used")
    bad = bad_rows(report.rows, report.bad_rows, report.first_bad)
    return lines + [line.replace("cannot be", "left out, which cannot be", 1) for line in bad[:1]] + bad[1:]


def _shapes(report: DatasetReport) -> str:
    if len(report.shapes) == 1 and report.records == report.rows:
        return f"{report.rows:,}, read as {report.shapes[0][0]}"
    shapes = [f"{rows:,} read as {shape}" for shape, rows in report.shapes[:SHOWN_NAMES]]
    if len(report.shapes) > SHOWN_NAMES:
        shapes.append(f"{sum(rows for _, rows in report.shapes[SHOWN_NAMES:]):,} read as other fields")
    return f"{report.rows:,}: {', '.join(shapes)}" if shapes else f"{report.rows:,}"


def _unused(name: str, rows: int) -> str:
    why = ": of a preference, the chosen answer is trained on" if name == "rejected" else ""
    return f"`{name}` in {format_count(rows, 'row')} is not used{why}"


def render_report(report: RenderReport) -> list[str]:
    """How chats were rendered, and what of them is not trained on: a line for each; none without chats."""
    methods = {method: count for method, count in report.methods if method != "text"}
    return [
        *([_template(report.template)] if methods else []),
        *(line for method, count in methods.items() for line in _method(method, count)),
        *(
            f"the template does not write `{name}`: {format_count(times, 'time')}"
            for name, times in report.ignored
        ),
        *_too_long(report),
        *(
            [f"{format_count(report.short, 'text')} left out: of one token, which no other predicts"]
            if report.short
            else []
        ),
        *_unrendered(report),
    ]


def _too_long(report: RenderReport) -> Iterator[str]:
    if report.trimmed:
        yield (
            f"{format_count(report.trimmed, 'chat')} too long: {format_count(report.trimmed_turns, 'turn')}"
            f" ({format_count(report.trimmed_tokens, 'token')}) removed at their start"
        )
    if report.dropped:
        tokens = format_count(report.dropped_tokens, "token")
        yield f"{format_count(report.dropped, 'chat')} too long and left out ({tokens})"


def _unrendered(report: RenderReport) -> Iterator[str]:
    if report.bad_rows:
        yield f"{format_count(report.bad_rows, 'record')} cannot be trained on once rendered:"
    for row in report.first_bad:
        yield f"  {row.where}: {row.problem}"
    if report.bad_rows > len(report.first_bad):
        yield f"  and {report.bad_rows - len(report.first_bad):,} more"


def _template(origin: str) -> str:
    return f"template: {'that of the base model' if origin == 'tokenizer' else origin}"


def _method(method: str, count: int) -> list[str]:
    """How the answers of `count` chats were found, where that needs a word."""
    if method == "marks":
        return [f"{format_count(count, 'chat')}: trained on what it marks by {{% generation %}}"]
    if method == "prefixes":
        return []
    how = (
        "searched for in its text"
        if method == "search"
        else f"marked by {method}, which writes the same text"
    )
    return [f"{format_count(count, 'chat')}: it rewrites answers once other turns follow; they are {how}"]


def bad_rows(rows: int, bad: int, first: tuple[BadRow, ...]) -> list[str]:
    """The number of bad rows among `rows`, and the first of them with place and cause; empty without any.

    What to do about each follows its cause where it differs.
    """
    if not bad:
        return []
    alike = len({row.fix for row in first}) == 1
    lines = [f"{bad:,} of {format_count(rows, 'row')} cannot be trained on:"]
    lines += [f"  {row.where}: {row.problem}{'' if alike else f' → {row.fix}'}" for row in first]
    return [*lines, f"  and {bad - len(first):,} more"] if bad > len(first) else lines
