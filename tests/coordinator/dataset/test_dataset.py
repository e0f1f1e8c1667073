"""Building shards from datasets: reading, rendering, the held-out part, and repeatable results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from barnraise.contract.shards import DataIndex, Sample, parse_shard
from barnraise.contract.spec import DataSpec, ModelSpec, RunSpec
from barnraise.core.errors import DatasetError, ModelUnavailable
from barnraise.core.ids import BlobHash, blob_hash
from coordinator.dataset.build import build
from coordinator.dataset.read import read
from coordinator.dataset.records import Chat, Message, Text
from coordinator.dataset.render import PLAIN_TEMPLATE, Renderer
from coordinator.reasons.dataset import BuiltDataset

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (  # writes "thoughts" into the last answer only, as some reasoning models' templates do
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}hm. {% endif %}MARK{{ m['content'] }}<|im_end|>END\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TWO_TURNS = Chat(
    (
        Message("system", "Be brief."),
        Message("user", "2+2?"),
        Message("assistant", " four"),
        Message("user", "Why? <|im_end|>"),
        Message("assistant", "\nBecause."),
    ),
    where="chat",
)


def save_tokenizer(folder: Path, template: str | None = CHATML, eos: str | None = "<|im_end|>") -> Path:
    """A byte-level tokenizer without merges, in the Hugging Face layout."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=eos)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def renderer(folder: Path, template: str | None = CHATML) -> Renderer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(save_tokenizer(folder, template))
    return Renderer(tokenizer, frozenset({tokenizer.eos_token_id}))


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(count: int) -> list[object]:
    return [{"prompt": f"What is {i}?", "completion": f"It is the number {i}."} for i in range(count)]


def run_spec(source: Path, *, held_out: float = 0.2, sequence_length: int = 64, seed: int = 0) -> RunSpec:
    data = DataSpec(source=str(source), held_out=held_out, sequence_length=sequence_length)
    return RunSpec(name="test", seed=seed, model=ModelSpec(source="unused"), data=data)


def built(spec: RunSpec, folder: Path) -> tuple[BuiltDataset, dict[BlobHash, bytes]]:
    store: dict[BlobHash, bytes] = {}

    def put(data: bytes) -> BlobHash:
        store[blob_hash(data)] = data
        return blob_hash(data)

    return build(spec, folder, put, lambda line: None), store


def samples_of(index: DataIndex, store: dict[BlobHash, bytes]) -> list[Sample]:
    return [
        sample
        for ref in index.shards
        for sample in parse_shard(store[ref.blob], index.sequence_length, index.vocab_size)
    ]


# Reading


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


def test_a_folder_is_read_in_sorted_order_without_hidden_and_blank_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("z.txt", "b/a.md", "a.txt", ".git/x.txt", "picture.png"):
        (tmp_path / name).write_text(name)
    (tmp_path / "blank.txt").write_text(" \n")
    write_lines(tmp_path / "c.jsonl", [{"body": "c"}])
    found = list(read(DataSpec(source=str(tmp_path), text_field="body")))
    assert found == [Text("a.txt"), Text("b/a.md"), Text("c"), Text("z.txt")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"body": "x"}', "it has: body"),
        ('{"text": 5}', "`text` is int"),
        ('{"messages": "hello"}', "not a list"),
        ('{"messages": [{"role": "user"}]}', "lacks `role` or `content`"),
        ('{"messages": [{"role": "tool", "content": "x"}]}', "unknown role `tool`"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "no assistant"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "speaks first"),
        ('{"prompt": "x", "completion": " "}', "blank"),
    ],
)
def test_a_bad_record_is_reported_by_file_and_line(tmp_path: Path, line: str, words: str) -> None:
    source = tmp_path / "d.jsonl"
    source.write_text('{"text": "good"}\n\n' + line + "\n")
    with pytest.raises(DatasetError, match=words) as caught:
        list(read(DataSpec(source=str(source))))
    assert f"{source}:3" in caught.value.problem


def test_unreadable_sources_are_reported(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b")
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00")
    for source, words in (
        ("none.txt", "does not exist"),
        ("d.csv", "unknown kind"),
        ("d.txt", "cannot read"),
    ):
        with pytest.raises(DatasetError, match=words):
            list(read(DataSpec(source=str(tmp_path / source))))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds none of"):
        list(read(DataSpec(source=str(tmp_path / "empty"))))


@pytest.mark.parametrize(("source", "module"), [("d.parquet", "pyarrow"), ("hub:owner/name", "datasets")])
def test_a_missing_extra_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, module: str
) -> None:
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    place = source if source.startswith("hub:") else str(tmp_path / source)
    with pytest.raises(DatasetError, match="not installed") as caught:
        list(read(DataSpec(source=place)))
    assert ".[data]" in caught.value.fix


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="the `data` extra is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    parquet.write_table(pyarrow.table({"messages": [messages]}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"not parquet")
    spec = DataSpec(source=str(tmp_path / "d.parquet"))
    assert list(read(spec)) == [Chat((Message("user", "Q"), Message("assistant", "A")))]
    with pytest.raises(DatasetError, match="cannot read"):
        list(read(spec.model_copy(update={"source": str(tmp_path / "e.parquet")})))


# Rendering


def test_answers_are_trained_on_with_their_end_of_turn_and_nothing_else(tmp_path: Path) -> None:
    chat = renderer(tmp_path)
    assert chat.preview(chat.render(TWO_TURNS)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n⟦ four<|im_end|>⟧\n"
        "<|im_start|>user\nWhy? <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\n⟦\nBecause.<|im_end|>⟧\n"
    )


def test_a_tokenizer_without_a_template_gets_the_plain_one(tmp_path: Path) -> None:
    plain = renderer(tmp_path, None)
    assert plain.template == PLAIN_TEMPLATE
    asked = Chat((Message("user", "Häuser?"), Message("assistant", "Houses 🏠")))
    assert plain.preview(plain.render(asked)) == "User: Häuser?\n\nAssistant:⟦ Houses 🏠<|im_end|>⟧\n\n"


def test_text_is_trained_on_whole_and_ends(tmp_path: Path) -> None:
    text = renderer(tmp_path)
    document = text.render(Text("Once."))
    assert text.preview(document) == "⟦Once.<|im_end|>⟧"
    assert document.input_ids.dtype == np.int32


def test_a_template_that_rewrites_answers_is_refused_unless_it_marks_them(tmp_path: Path) -> None:
    bare = FORGETFUL.replace("MARK", "").replace("END", "")
    with pytest.raises(DatasetError, match="differently once other turns follow"):
        renderer(tmp_path / "bare", bare).render(TWO_TURNS)
    marks = FORGETFUL.replace("MARK", "{% generation %}").replace("END", "{% endgeneration %}")
    marked = renderer(tmp_path / "marked", marks)
    one_answer = Chat(TWO_TURNS.messages[1:3])
    assert "⟦hm.  four<|im_end|>⟧" in marked.preview(marked.render(one_answer))
    assert "assistant\nhm. ⟦\nBecause.<|im_end|>⟧" in marked.preview(marked.render(TWO_TURNS))


def test_a_template_that_refuses_a_chat_is_reported(tmp_path: Path) -> None:
    strict = renderer(tmp_path, "{{ raise_exception('no system here') }}")
    with pytest.raises(DatasetError, match=r"chat: .*no system here"):
        strict.render(TWO_TURNS)


def test_an_answer_that_does_not_end_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, eos="<|end|>")
    source = write_lines(tmp_path / "d.jsonl", questions(1))
    with pytest.raises(DatasetError, match="would not learn to stop"):
        built(run_spec(source), tmp_path)
    # The model's generation config may name further end tokens.
    stop = PreTrainedTokenizerFast.from_pretrained(tmp_path).convert_tokens_to_ids("<|im_end|>")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [stop]}))
    assert "⟦It is the number 0.<|im_end|>⟧" in built(run_spec(source), tmp_path)[0].preview


def test_a_tokenizer_without_an_end_of_sequence_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, eos=None)
    with pytest.raises(DatasetError, match="no end-of-sequence token"):
        built(run_spec(write_lines(tmp_path / "d.jsonl", questions(1))), tmp_path)


# Building


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
    assert result.preview == "<|im_start|>user\nWhat is 0?<|im_end|>\n<|im_start|>assistant\n" + (
        "⟦It is the number 0.<|im_end|>⟧\n"
    )


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
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        built(run_spec(source), tmp_path / "nothing")
    folder = save_tokenizer(tmp_path / "t")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 200}))
    with pytest.raises(ModelUnavailable, match="tokens that the model does not have"):
        built(run_spec(source), folder)
