"""The words and the layout of `coordinator check`'s report; no other test asserts them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from barnraise.contract.shards import DataIndex, ShardRef
from barnraise.contract.spec import DataSpec, Lora, ModelSpec, Raw, RoundSpec, RunSpec, TrainSpec
from barnraise.contract.state import Layout
from coordinator.messages.check_report import check_report
from coordinator.reasons.dataset import BuiltDataset
from coordinator.reasons.setup import CheckReport, MainNewestNothingHeldOut
from coordinator.setup.report import make_report
from tests.support.rehearsals import REHEARSED
from tests.support.shapes import built_dataset, shape_of

MILLION = Layout((("a", (1000, 900)), ("b", (100_000,))))


def dataset() -> BuiltDataset:
    def index(shards: int) -> DataIndex:
        refs = tuple(ShardRef(hash=f"{n:064x}", samples=30, size=100_000) for n in range(shards))
        return DataIndex(sequence_length=64, vocab_size=9, shards=refs, tokens=1800, trained_tokens=1200)

    return built_dataset(index(2), index(1), records=18, held_out_records=2)


def report_of(tensors: Layout = MILLION, *, licence: str = "unknown", **settings: object) -> CheckReport:
    fields: dict[str, object] = {
        "name": "barn",
        "model": ModelSpec(source="tiny", licence=licence),
        "data": DataSpec(source="data.jsonl"),
        "codec": Raw(),
        "train": TrainSpec(target=Lora(rank=4)),
    }
    spec = RunSpec.model_validate(fields | settings)
    return make_report(spec, shape_of(10**9), tensors, dataset(), REHEARSED, peers=3, uplink_mbit=20)


def test_the_report() -> None:
    text = check_report(replace(report_of(), objections=[], warnings=[]))
    assert text.startswith("barn: the model\n")
    for words in (
        "tiny, 1,000,000,000 parameters",
        "1,000,000 parameters (0.1%): LoRA of rank 4",
        "sdpa, documents share samples",
        "one step in 12 s and 1 GB of memory: loss 2.50 on 100 tokens",
        "20, of which 2 held out",
        "60 of 64 tokens",
        "1,800, trained on 1,200",
        "by the precision of the frozen weights, at micro-batch 1",
        "how fast 3 volunteers train",
        "3 laptops ",
        "3 GPUs ",
        " s at 20 Mbit/s up",
        'kind = "dense", bits = 4: a round\'s exchange takes',
        "round.seconds 300 or more, round.grace 30 or more",
        "a checkpoint, one in ",
        "what the coordinator serves to anyone",
        "the newest whose held-out loss is within 1.0% of the best",
        "no: model.licence is 'unknown', which is not known to permit redistribution",
        "the first sample: text between ⟦ and ⟧ is trained on\n  is it ⟦four⟧?",
    ):
        assert words in text
    assert "its other forms" not in text
    assert text.endswith("No problems found: start the run with `coordinator serve`.")


def test_forms_that_are_asked_for() -> None:
    asked = {"merged": True, "gguf": "q8_0", "held_out_tokens": 0}
    text = check_report(report_of(licence="Apache 2.0", checkpoint=asked))
    assert "as trained, merged into the base model, as GGUF (q8_0)" in text
    assert "for its other forms, once promoted" in text
    assert "yes, by apache-2.0" in text
    assert "the newest: checkpoint.held_out_tokens is 0" in text


def test_without_held_out_text() -> None:
    report = replace(report_of(), main=MainNewestNothingHeldOut())
    assert "the newest: no text is held out" in check_report(report)


def test_warnings_end_the_report() -> None:
    text = check_report(report_of(round=RoundSpec(seconds=0.01)))
    assert "No problems found" not in text
    assert "It can run, but:\n  - " in text
    assert "\n  - the exchange takes" in text


def test_values_are_aligned() -> None:
    rows = [
        line
        for line in check_report(report_of()).splitlines()
        if line.startswith(("  trained", "  tokens", "  time to exchange"))
    ]
    columns = {len(line) - len(line[2:].lstrip().split("  ", 1)[1].lstrip()) for line in rows}
    assert len(rows) == 3
    assert len(columns) == 1


@pytest.mark.parametrize(
    ("tensors", "shown"),
    [(Layout((("a", (100,)),)), " 452 B"), (MILLION, " 4 MB"), (Layout((("a", (10**9,)),)), " 4 GB")],
)
def test_sizes_have_the_unit_that_fits(tensors: Layout, shown: str) -> None:
    text = check_report(report_of(tensors))
    line = next(line for line in text.splitlines() if line.startswith("  a contribution"))
    assert f" {shown}; a volunteer" in line
