"""The words of the dataset builder; no other test asserts them."""

from __future__ import annotations

import pytest

from coordinator.dataset.rows.counts import RowCounts, records
from coordinator.dataset.rows.row import Row
from coordinator.messages.dataset import build_step, dataset_report, render_report
from coordinator.reasons.dataset import (
    BadRow,
    BeyondPositions,
    BuildStep,
    DatasetBuilt,
    DatasetReport,
    NothingHeldOut,
    ReadingDataset,
    RecordsTokenized,
    RenderReport,
)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (ReadingDataset("data.jsonl"), "reading data.jsonl"),
        (RecordsTokenized(5000), "5,000 records tokenized"),
        (NothingHeldOut(), "nothing is held out: the dataset has too few different records"),
        (
            BeyondPositions(5000, 4096),
            "the longest document has 5,000 tokens, and the model was trained on 4,096 positions: it may "
            "learn little from what lies beyond",
        ),
        (DatasetBuilt(9, 4, 230), "9 records in 4 samples, 230 trained tokens"),
    ],
)
def test_build_step(step: BuildStep, words: str) -> None:
    assert build_step(step) == words


def test_dataset_report() -> None:
    report = DatasetReport(
        rows=1009,
        records=1000,
        bad_rows=7,
        first_bad=(BadRow("d.jsonl:3", "`text` is null", "Fill it in."),),
        blank=1,
        disliked=1,
        untrained=2,
        lacking=3,
        other_splits=(("test", 12),),
        shapes=(("`messages`", 990), ("`text`", 10)),
        unused=(("id", 1000), ("rejected", 4), *((f"f{n}", 1) for n in range(11))),
    )
    lines = dataset_report(report)
    assert lines[:8] == [
        "1,009: 990 read as `messages`, 10 read as `text`",
        "3 rows without the field that data.text_field names",
        "1 row left out: blank text",
        "1 row left out: the label of the answer is false",
        "12 rows left out: split `test`",
        "2 messages of the assistant not trained on: of weight 0, or part of a prompt",
        "`id` in 1,000 rows is not used",
        "`rejected` in 4 rows is not used: of a preference, the chosen answer is trained on",
    ]
    assert lines[-4:] == [
        "1 more field not used",
        "7 of 1,009 rows left out, which cannot be trained on:",
        "  d.jsonl:3: `text` is null",
        "  and 6 more",
    ]


def test_a_dataset_of_one_shape_takes_one_line() -> None:
    counts = RowCounts()
    list(records([Row({"prompt": "Q", "completion": "A"}, "d.jsonl:1")], None, counts))
    assert dataset_report(counts.report()) == ["1, read as `prompt` and `completion`"]


def test_render_report() -> None:
    report = RenderReport(
        template="tokenizer",
        methods=(("text", 9), ("prefixes", 4), ("built-in qwen3", 3), ("search", 1), ("marks", 1)),
        ignored=(("reasoning_content", 2),),
        trimmed=1,
        trimmed_turns=2,
        trimmed_tokens=1300,
        dropped=2,
        dropped_tokens=1,
        bad_rows=6,
        first_bad=(BadRow("d.jsonl:3", "it has no answer", "Remove it."),),
    )
    assert render_report(report) == [
        "template: that of the base model",
        "3 chats: it rewrites answers once other turns follow; they are marked by built-in qwen3, which"
        " writes the same text",
        "1 chat: it rewrites answers once other turns follow; they are searched for in its text",
        "1 chat: trained on what it marks by {% generation %}",
        "the template does not write `reasoning_content`: 2 times",
        "1 chat too long: 2 turns (1,300 tokens) removed at their start",
        "2 chats too long and left out (1 token)",
        "6 records cannot be trained on once rendered:",
        "  d.jsonl:3: it has no answer",
        "  and 5 more",
    ]
    assert render_report(RenderReport("built-in plain", (("text", 9),), (), 0, 0, 0, 0, 0, 0, ())) == []
