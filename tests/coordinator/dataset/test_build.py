"""Building shards: the held-out part, counts, and repeatable results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from barnraise.contract.shards import DataIndex
from barnraise.contract.spec import DataSpec, RunSpec, SourceSpec
from barnraise.core.errors import DatasetError, ModelUnusable
from tests.support.datasets import built, questions, run_spec, samples_of, save_tokenizer, write_lines


def test_the_same_input_gives_the_same_shards(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    spec = run_spec(write_lines(tmp_path / "d.jsonl", questions(60)))
    assert built(spec, folder) == built(spec, folder)
    other, _ = built(spec.model_copy(update={"seed": 1}), folder)
    assert other.index != built(spec, folder)[0].index


def test_peers_get_all_records_that_are_not_held_out(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    rows = questions(60)
    result, store = built(run_spec(write_lines(tmp_path / "d.jsonl", [*rows, *rows])), folder)
    decode: Callable[[list[int]], str] = PreTrainedTokenizerFast.from_pretrained(folder).decode

    def asked(index: DataIndex) -> list[int]:
        texts = [decode(sample.input_ids.tolist()) for sample in samples_of(index, store)]
        return sorted(i for i in range(60) for text in texts for _ in range(text.count(f"What is {i}?")))

    seen, kept = asked(result.index), asked(result.held_out)
    assert sorted(seen + kept) == sorted([*range(60), *range(60)])
    assert not set(seen) & set(kept), "both copies of a record are on one side"
    assert result.records == 120
    assert result.held_out_records == len(kept) > 0
    assert {ref.blob for ref in result.index.shards + result.held_out.shards} == set(store)


def test_the_counts_of_the_index_are_those_of_its_shards(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    source = write_lines(tmp_path / "d.jsonl", [*questions(30), {"text": "A long story. " * 90}])
    result, store = built(run_spec(source, held_out=0, sequence_length=128), folder)
    samples = samples_of(result.index, store)
    assert result.index.trained_tokens == sum(sample.trained_tokens for sample in samples)
    assert result.held_out.shards == ()
    assert result.index.samples == len(samples)


def test_a_shard_holds_at_most_256_samples(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    (tmp_path / "d.txt").write_text("x" * (8 * 300))
    result, _ = built(run_spec(tmp_path / "d.txt", sequence_length=8), folder)
    assert result.index.shard_sizes[0] == 256
    assert sum(result.index.shard_sizes) in (300, 301)


def test_an_empty_dataset_is_refused(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    (tmp_path / "d.txt").write_text("\n")
    with pytest.raises(DatasetError, match="is empty"):
        built(run_spec(tmp_path / "d.txt"), folder)


def test_an_unreadable_tokenizer_is_reported(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "d.jsonl", questions(2))
    with pytest.raises(ModelUnusable):
        built(run_spec(source), tmp_path / "nothing")


def test_the_number_of_cores_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tokenizer(tmp_path / "t")
    spec = run_spec(
        write_lines(tmp_path / "d.jsonl", [*questions(40), *({"text": f"{i} " * 90} for i in range(9))])
    )
    found = built(spec, folder)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    assert built(spec, folder) == found


def test_each_document_has_a_sample_of_its_own_without_packing(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    spec = run_spec(write_lines(tmp_path / "d.jsonl", questions(30)), held_out=0)
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"packing": "never"})})
    result, store = built(spec, folder)
    assert result.index.samples == result.documents == 30
    assert all(np.count_nonzero(s.position_ids == 0) <= 2 for s in samples_of(result.index, store))
    assert result.padding > 0.1


def test_a_preview_shows_the_first_packed_sample(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    spec = run_spec(write_lines(tmp_path / "d.jsonl", questions(3)), held_out=0, sequence_length=256)
    assert built(spec, folder)[0].preview.count("⟦") == 3


def test_bad_rows_are_all_counted_before_they_are_refused(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    source = write_lines(tmp_path / "d.jsonl", [*questions(3), [1], *questions(3), [2], *questions(3)])
    with pytest.raises(DatasetError) as caught:
        built(run_spec(source), folder)
    assert caught.value.problem.startswith("2 of 11 rows")


def test_sources_are_trained_on_by_their_weights(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path / "t")
    names = ("half", "once", "twice")
    for name in names:
        write_lines(tmp_path / f"{name}.jsonl", [{"text": f"{name}{i} "} for i in range(100)])
    sources = tuple(
        SourceSpec(source=str(tmp_path / f"{name}.jsonl"), weight=weight)
        for name, weight in zip(names, (0.5, 1, 2), strict=True)
    )
    data = DataSpec(sources=sources, held_out=0.2, sequence_length=64)
    result, store = built(RunSpec(name="test", data=data), folder)
    decode: Callable[[list[int]], str] = PreTrainedTokenizerFast.from_pretrained(folder).decode

    def words(index: DataIndex) -> Counter[str]:
        found = (decode(sample.input_ids.tolist()) for sample in samples_of(index, store))
        return Counter(word for text in found for word in re.findall(r"[a-z]+\d+", text))

    trained, held_out = words(result.index), words(result.held_out)
    assert set(held_out.values()) == {1}
    assert {trained[f"once{i}"] for i in range(100)} == {0, 1}
    assert {trained[f"twice{i}"] for i in range(100)} == {0, 2}
    halves = sum(trained[f"half{i}"] for i in range(100))
    left = 100 - sum(word.startswith("half") for word in held_out)
    assert 0.3 * left < halves < 0.7 * left
    assert [found.source for found in result.sources] == [source.source for source in sources]
