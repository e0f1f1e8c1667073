"""Writes what a row becomes on one line, as the table of docs/DATA.md does."""

from __future__ import annotations

import json

from coordinator.dataset.records import Chat, Message, Record
from coordinator.dataset.rows.counts import RowCounts, records
from coordinator.dataset.rows.row import Row


def outcome(value: object, text_field: str | None = None) -> str:
    """The record of a row, or why it gives none, and the fields that are not used."""
    counts = RowCounts()
    found = list(records([Row(value, "row")], text_field, counts))
    report = counts.report()
    if report.first_bad:
        return f"bad: {report.first_bad[0].problem}"
    if report.blank:
        return "left out: blank"
    if report.disliked:
        return "left out: label"
    unused = ", ".join(sorted(name for name, _ in report.unused))
    return _record(found[0]) + (f" (not used: {unused})" if unused else "")


def _record(record: Record) -> str:
    if not isinstance(record, Chat):
        return f"text: {record.text}"
    tools = "+".join(tool["function"]["name"] for tool in record.tools)
    turns = [_message(message) for message in record.messages]
    return " / ".join([f"tools: {tools}", *turns] if tools else turns)


def _message(message: Message) -> str:
    said = [message.content] if message.content else []
    if message.reasoning:
        said.insert(0, f"[{message.reasoning}]")
    for call in message.tool_calls:
        function = call["function"]
        said.append(f"{function['name']}({json.dumps(function['arguments'])})")
    who = f"{message.role} {message.name}" if message.name else message.role
    marks = "" if message.trained else " (not trained on)"
    return f"{who}: {' '.join(said)}{marks}".replace("\n", "⏎")
