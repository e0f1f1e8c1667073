"""`coordinator check`: the arithmetic, the warnings, and the report over a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from barnraise.contract.spec import (
    DataSpec,
    Dense,
    Lora,
    ModelSpec,
    Raw,
    RoundSpec,
    RunSpec,
    TrainSpec,
)
from barnraise.core.errors import DatasetError, ModelUnusable, SpecError, UserError
from barnraise.models.causal_lm import model_shape
from barnraise.models.trainable import layout
from coordinator.reasons.setup import (
    CheckReport,
    ExchangeTooLong,
    MainNewestNothingHeldOut,
    MainNewestUnevaluated,
    MainWithinBest,
    NotRedistributable,
    Redistributable,
)
from coordinator.setup.check import check
from coordinator.setup.needs import needs
from coordinator.setup.prepare import prepare
from tests.support.parts import AUTHORITY
from tests.support.rehearsals import rehearsed, resolved
from tests.support.tiny import VOCABULARY, make_tiny_model, make_tiny_tokenizer

CHAT = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "four"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def run_of(folder: Path, model: Path, rows: list[object], **settings: object) -> RunSpec:
    source = folder / "data.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataSpec(source=str(source), sequence_length=64, held_out=0.1)
    fields: dict[str, object] = {"model": ModelSpec(source=str(model)), "data": data, "codec": Raw()}
    return RunSpec.model_validate({"name": "barn"} | fields | settings)


def checked(spec: RunSpec, cache: Path) -> CheckReport:
    return check(spec, cache, peers=2, uplink_mbit=10, rehearse=rehearsed)


def test_the_report_has_model_data_needs_and_a_sample(tmp_path: Path, model: Path) -> None:
    rows: list[object] = [CHAT | {"id": i} for i in range(5)]
    rows += [{"text": f"Text number {i}."} for i in range(15)]
    spec = run_of(tmp_path, model, rows, train=TrainSpec(target=Lora(rank=4)))
    report = check(spec, tmp_path / "cache", peers=3, uplink_mbit=20, rehearse=rehearsed)
    assert report.needs == needs(spec, model_shape(model), layout(model, Lora(rank=4)), peers=3)
    assert (report.spec, report.peers, report.uplink_mbit) == (resolved(spec), 3, 20)
    assert report.dataset.records == 20
    assert "⟦ext number 11.<|im_end|>⟧" in report.dataset.preview
    assert (report.recommendation.codec, report.recommendation.seconds) == (Dense(bits=4), 300)
    assert report.warnings == []


def test_the_report_has_what_the_server_provides(tmp_path: Path, model: Path) -> None:
    def of(licence: str, **checkpoint: object) -> CheckReport:
        spec = run_of(tmp_path, model, [{"text": f"text {i}"} for i in range(30)], checkpoint=checkpoint)
        spec = spec.model_copy(update={"model": ModelSpec(source=str(model), licence=licence)})
        return checked(spec, tmp_path / "cache")

    plain = of("unknown")
    assert plain.model_licence == NotRedistributable("model.licence", "unknown")
    assert plain.main == MainWithinBest(0.01)
    assert plain.needs.forms == 0
    open = of("Apache 2.0", merged=True, gguf="q8_0", held_out_tokens=0)
    assert open.model_licence == Redistributable("apache-2.0")
    assert open.main == MainNewestUnevaluated()
    assert open.needs.forms > 0


def test_without_held_out_text_main_is_the_newest(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT] * 3)
    assert checked(spec, tmp_path / "cache").main == MainNewestNothingHeldOut()


def test_a_model_that_has_no_gguf_form_is_refused_before_any_work(tmp_path: Path, model: Path) -> None:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(tmp_path / "opt")
    make_tiny_tokenizer().save_pretrained(tmp_path / "opt")
    lora = TrainSpec(target=Lora(rank=4, modules=("q_proj", "v_proj")))
    spec = run_of(tmp_path, tmp_path / "opt", [CHAT], train=lora, checkpoint={"gguf": "f16"})
    for work in (
        lambda: checked(spec, tmp_path / "cache"),
        lambda: prepare(
            spec, AUTHORITY.public, tmp_path / "run", tmp_path / "cache", lambda line: None, rehearsed
        ),
    ):
        with pytest.raises(SpecError, match=r"checkpoint\.gguf is 'f16', but a OPTForCausalLM") as refused:
            work()
        assert "Leave `gguf` out of [checkpoint]" in refused.value.fix
    assert not (tmp_path / "run").exists(), "the data was packed before the check"
    possible = run_of(tmp_path, model, [CHAT], checkpoint={"gguf": "f16"})
    assert checked(possible, tmp_path / "cache").spec == resolved(possible)


def test_the_report_has_the_warnings(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT], round=RoundSpec(seconds=0.01))
    (warning,) = checked(spec, tmp_path / "cache").warnings
    assert isinstance(warning, ExchangeTooLong)


def test_nothing_of_the_data_is_kept(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT])
    checked(spec, tmp_path / "cache")
    kept = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {".jsonl", ".json"}  # the data itself, and the note of the model's hashes


def test_an_empty_dataset_is_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(DatasetError, match="is empty"):
        checked(run_of(tmp_path, model, []), tmp_path / "cache")


def test_a_template_that_never_ends_an_answer_is_refused(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", ""))
    with pytest.raises(DatasetError, match="without an end-of-sequence token"):
        checked(run_of(tmp_path, folder, [CHAT]), tmp_path / "cache")


def test_an_invalid_record_at_the_end_is_found(tmp_path: Path, model: Path) -> None:
    rows: list[object] = [CHAT] * 30 + [{"nothing": "known"}]
    with pytest.raises(DatasetError, match=r"data\.jsonl:31"):
        checked(run_of(tmp_path, model, rows), tmp_path / "cache")


def test_a_module_that_the_model_lacks_is_refused(tmp_path: Path, model: Path) -> None:
    spec = run_of(tmp_path, model, [CHAT], train=TrainSpec(target=Lora(modules=("c_attn",))))
    with pytest.raises(SpecError, match="no layer called `c_attn`"):
        checked(spec, tmp_path / "cache")


def test_no_peers_are_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UserError, match="0 peers"):
        check(run_of(tmp_path, model, [CHAT]), tmp_path / "cache", peers=0, uplink_mbit=10)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable):
        checked(run_of(tmp_path, tmp_path / "no-model", [CHAT]), tmp_path / "cache")
