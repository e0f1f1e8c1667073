"""`coordinator check`: the arithmetic, the warnings, and the whole report over a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barnraise.contract.spec import AdamW, DataSpec, Full, Lora, ModelSpec, Raw, RoundSpec, RunSpec, TrainSpec
from barnraise.contract.state import Layout
from barnraise.core.errors import DatasetError, ModelUnavailable, SpecError, UserError
from barnraise.core.ids import blob_hash
from barnraise.fold.codec import typical_blob
from barnraise.models.memory_estimate import MICRO_BATCH_CPU, MICRO_BATCH_GPU, memory_needed
from barnraise.models.trainable import layout, parameter_count
from coordinator.dataset.build import build
from coordinator.setup.charter import prepare
from coordinator.setup.check import Needs, needs, render, report
from tests.support.parts import AUTHORITY
from tests.support.tiny import VOCABULARY, make_tiny_model, make_tiny_tokenizer

MILLION = Layout((("a", (1000, 900)), ("b", (100_000,))))
CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "four"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def spec_of(**settings: object) -> RunSpec:
    fields: dict[str, object] = {"name": "barn", "data": DataSpec(source="data.jsonl"), "codec": Raw()}
    return RunSpec.model_validate(fields | settings)


def run_of(folder: Path, model: Path, rows: list[object], **settings: object) -> RunSpec:
    source = folder / "data.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataSpec(source=str(source), sequence_length=64, held_out=0.1)
    return spec_of(model=ModelSpec(source=str(model)), data=data, **settings)


# The arithmetic


def test_what_is_sent_follows_from_the_blob_and_the_peers() -> None:
    found = needs(spec_of(), 5_000_000, MILLION, peers=4)
    assert found.trainable_params == 1_000_000
    assert found.blob == typical_blob(Raw(), MILLION)
    assert (found.up, found.down) == (4 * found.blob, 3 * found.blob)


def test_no_more_contributions_count_than_a_round_folds() -> None:
    few = needs(spec_of(round={"max_contributions": 8}), 5_000_000, MILLION, peers=8)
    many = needs(spec_of(round={"max_contributions": 8}), 5_000_000, MILLION, peers=800)
    assert (many.up, many.log_per_round) == (few.up, few.log_per_round)
    assert many.down == few.down + many.blob  # most volunteers have no turn, and fetch all eight


def test_one_volunteer_alone_receives_nothing_but_sends_to_the_coordinator() -> None:
    found = needs(spec_of(), 5_000_000, MILLION, peers=1)
    assert (found.up, found.down) == (found.blob, 0)


@pytest.mark.parametrize(
    ("settings", "arrays"),
    [
        ({}, 1),
        ({"outer": {"kind": "sgd", "momentum": 0.9}}, 2),
        ({"train": {"method": "gradient"}, "outer": {"kind": "adamw"}}, 3),
    ],
)
def test_a_checkpoint_holds_the_parameters_and_the_outer_buffers(
    settings: dict[str, object], arrays: int
) -> None:
    found = needs(spec_of(**settings), 5_000_000, MILLION, peers=2)
    assert found.checkpoint == arrays * 4_000_000
    assert found.coordinator_memory > 2 * found.checkpoint + 2 * found.blob


def test_the_disk_holds_the_kept_checkpoints_and_the_log() -> None:
    def of(**checkpoint: object) -> Needs:
        return needs(spec_of(checkpoint={"keep": 1, **checkpoint}), 5_000_000, MILLION, peers=3)

    found = of(log_gigabytes=0.5)
    assert found.log_per_round > 3 * found.blob
    assert (found.forms, found.log) == (0, 500_000_000)
    assert found.disk == 4 * found.checkpoint + found.log, "the promoted one, the best and the oldest as well"
    assert of(keep=10, log_gigabytes=0.5).disk == found.disk + 9 * found.checkpoint
    assert of(every=5, log_gigabytes=0).log == 5 * found.log_per_round, "a restart folds what comes after it"


def test_other_forms_take_what_their_precision_says() -> None:
    def of(target: object = "lora", **checkpoint: object) -> Needs:
        spec = spec_of(checkpoint=checkpoint, train={"target": {"kind": target}})
        return needs(spec, 32_000_000, MILLION, peers=3)

    assert of(merged=True).forms == of(gguf="f16").forms == 64_000_000
    assert of(gguf="q8_0").forms == 34_000_000
    assert of("full", merged=True).forms == 0, "there is no adapter to merge"
    both = of(merged=True, gguf="f16", keep=1)
    assert both.disk - of(keep=1).disk == 4 * 128_000_000


def test_a_peers_memory_is_the_estimate_that_a_peer_checks_before_it_joins() -> None:
    spec = spec_of(train=TrainSpec(method="gradient", target=Full()), outer=AdamW())
    found = needs(spec, 1_000_000, MILLION, peers=2)

    def expected(samples: int) -> int:
        return memory_needed(1_000_000, 1_000_000, Full(), "gradient", tokens=samples * 512)

    assert found.peer_memory == expected(MICRO_BATCH_CPU)
    assert found.gpu_memory == expected(MICRO_BATCH_GPU)


# The report


def test_the_report_tells_model_data_needs_and_a_masked_sample(tmp_path: Path, model: Path) -> None:
    rows: list[object] = [CHAT | {"id": i} for i in range(5)]
    rows += [{"text": f"Text number {i}."} for i in range(15)]
    spec = run_of(tmp_path, model, rows, train=TrainSpec(target=Lora(rank=4)))
    text = report(spec, tmp_path / "cache", peers=3, uplink_mbit=20)
    trained = layout(model, Lora(rank=4)).parameters
    assert f"{parameter_count(model):,} parameters" in text
    assert f"{trained:,} parameters" in text
    assert "LoRA of rank 4" in text
    assert "3 volunteers" in text
    assert "20, of which" in text
    assert "⟦four<|im_end|>⟧" in text
    assert "All is well" in text
    assert "at 20 Mbit/s up" in text
    assert 'kind = "dense", bits = 4, because' in text
    assert "300 or more" in text


def test_the_report_tells_what_anybody_may_have(tmp_path: Path, model: Path) -> None:
    def of(licence: str, **checkpoint: object) -> str:
        spec = run_of(tmp_path, model, [{"text": f"text {i}"} for i in range(30)], checkpoint=checkpoint)
        spec = spec.model_copy(update={"model": ModelSpec(source=str(model), licence=licence)})
        return report(spec, tmp_path / "cache", peers=2, uplink_mbit=10)

    plain = of("unknown")
    assert "no: model.licence is 'unknown', which is not known to let anybody pass copies on" in plain
    assert "within 1.0% of the best" in plain
    assert "its other forms" not in plain
    told = of("Apache 2.0", merged=True, gguf="q8_0", held_out_tokens=0)
    assert "as trained, merged into the base model, as GGUF (q8_0)" in told
    assert "yes, by apache-2.0" in told
    assert "the newest: checkpoint.held_out_tokens is 0" in told
    assert "its other forms, once promoted" in told


def test_a_model_that_has_no_gguf_form_is_refused_before_any_work(tmp_path: Path, model: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    make_tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    spec = run_of(tmp_path, tmp_path / "gpt2", [CHAT], checkpoint={"gguf": "f16"})
    for work in (
        lambda: report(spec, tmp_path / "cache", peers=2, uplink_mbit=10),
        lambda: prepare(spec, AUTHORITY.public, tmp_path / "run", tmp_path / "cache", lambda line: None),
    ):
        with pytest.raises(SpecError, match=r"checkpoint\.gguf is 'f16', but a GPT2LMHeadModel") as refused:
            work()
        assert "Leave `gguf` out of [checkpoint]" in refused.value.fix
    assert not (tmp_path / "run").exists(), "the data was packed before it was found out"
    possible = run_of(tmp_path, model, [CHAT], checkpoint={"gguf": "f16"})
    assert "as GGUF (f16)" in report(possible, tmp_path / "cache", peers=2, uplink_mbit=10)


def test_the_values_of_the_report_stand_in_one_column(tmp_path: Path, model: Path) -> None:
    text = report(
        run_of(tmp_path, model, [{"text": "a text"}] * 3), tmp_path / "cache", peers=2, uplink_mbit=10
    )
    rows = [
        line for line in text.splitlines() if line.startswith(("  trained", "  tokens", "  time to exchange"))
    ]
    columns = {len(line) - len(line[2:].lstrip().split("  ", 1)[1].lstrip()) for line in rows}
    assert len(rows) == 3
    assert len(columns) == 1


def test_warnings_end_the_report(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT], round=RoundSpec(seconds=0.01))
    text = report(spec, tmp_path / "cache", peers=2, uplink_mbit=10)
    assert "All is well" not in text
    assert "It can run, but:\n  - a round's exchange takes" in text


def test_nothing_of_the_data_is_kept(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT])
    report(spec, tmp_path / "cache", peers=2, uplink_mbit=10)
    kept = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {".jsonl", ".json"}  # the data itself, and the note of the model's hashes


def test_an_empty_dataset_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        report(run_of(tmp_path, model, []), tmp_path / "cache", peers=2, uplink_mbit=10)


def test_a_template_that_never_ends_an_answer_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", ""))
    with pytest.raises(DatasetError, match="without an end-of-sequence token"):
        report(run_of(tmp_path, folder, [CHAT]), tmp_path / "cache", peers=2, uplink_mbit=10)


def test_a_broken_record_far_down_is_found(tmp_path: Path, model: Path) -> None:
    rows: list[object] = [CHAT] * 30 + [{"nothing": "known"}]
    with pytest.raises(DatasetError, match=r"data\.jsonl:31"):
        report(run_of(tmp_path, model, rows), tmp_path / "cache", peers=2, uplink_mbit=10)


def test_a_module_that_the_model_lacks_is_refused(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT], train=TrainSpec(target=Lora(modules=("c_attn",))))
    with pytest.raises(SpecError, match="no linear layer called `c_attn`"):
        report(spec, tmp_path / "cache", peers=2, uplink_mbit=10)


def test_no_peers_are_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UserError, match="0 peers"):
        report(run_of(tmp_path, model, [CHAT]), tmp_path / "cache", peers=0, uplink_mbit=10)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        report(run_of(tmp_path, tmp_path / "no-model", [CHAT]), tmp_path / "cache", peers=2, uplink_mbit=10)


@pytest.mark.parametrize(
    ("layout_", "shown"),
    [(Layout((("a", (100,)),)), " 452 B"), (MILLION, " 4 MB"), (Layout((("a", (10**9,)),)), " 4 GB")],
)
def test_sizes_are_told_in_the_unit_that_fits(
    tmp_path: Path, model: Path, layout_: Layout, shown: str
) -> None:
    spec = run_of(tmp_path, model, [CHAT])
    built = build(spec, model, blob_hash, lambda line: None)
    text = render(spec, needs(spec, 10**9, layout_, peers=2), built, layout_, 2, 10.0)
    line = next(line for line in text.splitlines() if line.startswith("  a contribution"))
    assert line.endswith(shown)
