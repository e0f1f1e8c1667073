"""Rows: which record each holds, and the count of those that hold none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.spec import DataSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.records import Chat, Message
from coordinator.dataset.rows.bad_rows import refuse
from coordinator.dataset.rows.counts import RowCounts, records
from coordinator.dataset.rows.row import BadRow, Row
from coordinator.dataset.sources.read import read
from coordinator.reasons.dataset import RenderReport
from tests.support.datasets import write_lines

RENDERED = RenderReport("tokenizer", (), (), 0, 0, 0, 0, 0, 0, ())


def counted(*rows: object, text_field: str | None = None) -> RowCounts:
    counts = RowCounts()
    found = [Row(row, f"d.jsonl:{number}") for number, row in enumerate(rows, start=1)]
    list(records(found, text_field, counts))
    return counts


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"prompt": "Q", "completion": "A", "text": "not this"},
    ],
)
def test_every_known_shape_is_the_same_chat(tmp_path: Path, row: object) -> None:
    source = write_lines(tmp_path / "d.jsonl", [row])
    assert list(read(DataSpec(source=str(source)))) == [
        Chat((Message("user", "Q"), Message("assistant", "A")))
    ]


def test_the_input_of_alpaca_follows_the_instruction(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "d.jsonl", [{"instruction": "Add.", "input": "1, 2", "output": "3"}])
    (chat,) = read(DataSpec(source=str(source)))
    assert isinstance(chat, Chat)
    assert chat.messages[0].content == "Add.\n\n1, 2"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"body": "x"}', "it has: body"),
        ('{"text": 5}', "`text` is a number"),
        ('{"messages": "hello"}', "not a list"),
        ('{"messages": [{"role": "user"}]}', "has no `content`; it has: role"),
        ('{"messages": [{"role": "narrator", "content": "x"}]}', "unknown role `narrator`"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "speaks first"),
        ('{"prompt": "x", "completion": " "}', "blank"),
    ],
)
def test_a_bad_row_is_counted_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    source = tmp_path / "d.jsonl"
    source.write_text('{"text": "good"}\n\n' + line + "\n")
    counts = RowCounts()
    assert len(list(read(DataSpec(source=str(source)), counts))) == 1
    (bad,) = counts.first_bad
    assert bad.where == f"{source}:3"
    assert words in bad.problem


def test_all_bad_rows_are_counted_and_the_first_five_are_shown() -> None:
    counts = counted({"text": "good"}, *[{"text": None}] * 7, {"text": " "})
    report = counts.report()
    assert (report.rows, report.records, report.bad_rows, report.blank) == (9, 1, 7, 1)
    assert [row.where for row in report.first_bad] == [f"d.jsonl:{n}" for n in range(2, 7)]


def test_bad_rows_are_refused_or_skipped_but_never_all() -> None:
    counts = counted({"text": "good"}, *[{"text": None}] * 7)
    with pytest.raises(DatasetError) as caught:
        refuse(counts.report(), RENDERED, "refuse", "d.jsonl")
    assert caught.value.problem.count("d.jsonl:") == 5
    assert 'bad_rows = "skip"' in caught.value.fix
    refuse(counts.report(), RENDERED, "skip", "d.jsonl")
    with pytest.raises(DatasetError) as caught:
        refuse(counted({"text": None}).report(), RENDERED, "skip", "d.jsonl")
    assert "skip" not in caught.value.fix


def test_records_that_cannot_be_rendered_are_bad_rows_too() -> None:
    bad = BadRow("d.jsonl:9", "the template refuses it", "Mend it.")
    rendered = replace(RENDERED, bad_rows=1, first_bad=(bad,))
    report = counted({"text": "good"}, {"text": "better"}, {"text": None}).report()
    with pytest.raises(DatasetError) as caught:
        refuse(report, rendered, "refuse", "d.jsonl")
    assert "2 of 3 rows" in caught.value.problem
    assert "d.jsonl:9: " in caught.value.problem


def test_a_dataset_is_refused_without_records_or_without_the_named_field() -> None:
    for rows in ([], [{"text": " "}], [{"prompt": "Q", "completion": "A", "label": False}]):
        with pytest.raises(DatasetError, match="is empty"):
            refuse(counted(*rows).report(), RENDERED, "skip", "d.jsonl")
    chat = {"prompt": "Q", "completion": "A"}
    with pytest.raises(DatasetError, match="text_field"):
        refuse(counted(chat, text_field="body").report(), RENDERED, "refuse", "d.jsonl")
    mixed = counted(chat, {"body": "T"}, text_field="body").report()
    refuse(mixed, RENDERED, "refuse", "d.jsonl")
    assert mixed.lacking == 1
    assert counted("a plain text", text_field="body").lacking == 1


def test_the_counts_of_parts_are_those_of_the_whole() -> None:
    rows: list[object] = [{"text": f"t{n}"} if n % 3 else {"body": n} for n in range(30)]
    bad = BadRow("d.jsonl:31", "it is cut off", "Mend it.")
    for cut in (0, 1, 7, 29, 30):
        first, later = counted(*rows[:cut]), RowCounts()
        numbered = [Row(row, f"d.jsonl:{n}") for n, row in enumerate(rows, start=1)]
        list(records([*numbered[cut:], bad], None, later))
        first.merge(later)
        whole = RowCounts()
        list(records([*numbered, bad], None, whole))
        assert first.report() == whole.report()
