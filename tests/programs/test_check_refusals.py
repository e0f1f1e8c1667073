"""What `coordinator check` refuses of a maintainer's files: it names the file or setting, and a fix."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.cli.main import main
from tests.support.programs import restored_logging
from tests.support.tiny import make_tiny_model

RUN = 'name = "barn"\n[model]\nsource = "model"\n[data]\nsource = "data.jsonl"\nsequence_length = 64\n'
ROWS = "".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"{n}+2?"}, {"role": "assistant", "content": "four"}]}
    )
    + "\n"
    for n in range(12)
)
LORA = '[train.target]\nkind = "lora"\n'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    with restored_logging():
        yield


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Path:
    """A folder with a run that `check` accepts."""
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "data.jsonl").write_text(ROWS, encoding="utf-8")
    (tmp_path / "run.toml").write_text(RUN, encoding="utf-8")
    return tmp_path


def refused(folder: Path, *words: str) -> None:
    """Assert that `coordinator check` ends with status 2, a problem with these words, and a fix."""
    arguments = ["check", str(folder / "run.toml"), "--cache-dir", str(folder / "cache")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit), "a traceback"
    problem, arrow, fix = done.stderr.partition("\n  → ")
    assert arrow, done.stderr
    assert fix.strip()
    for word in words:
        assert word in problem
    assert done.stdout == ""


# run.toml


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ('"barn"', '"barn', "run.toml is not valid TOML"),
        ('name = "barn"', 'name = "barn"\nname = "b"', "line 2"),
        ("[data]", "[data]\n[data]", "line 5"),
        ('name = "barn"\n', "", "`name` is missing"),
        ('"barn"', "true", "`name`"),
        ('"barn"', '"My run"', "`name`"),
        ("[data]", "[[data]]", "`data`"),
        ("64", '"64"', "`data.sequence_length`"),
        ("64", "64.5", "`data.sequence_length`"),
        ("64", "10_000_000", "`data.sequence_length`"),
        ("64", "64\nheld_out = 5", "`data.held_out`"),
        ("64", '64\npacking = "yes"', "`data.packing`"),
        ("64", '64\nchat_template = "chatlm"', "chat_template"),
        ("64", "64\n[train.inner]\nlr = nan", "`train.inner.lr`"),
        ("64", "64\n[train.inner]\nlr = -1.0", "`train.inner.lr`"),
        ("64", "64\n[train.inner]\nlr = 3.0", "train.inner.lr is 3"),
        ("64", "64\n[train.inner]\nlr = 1e-15", "train.inner.lr is 1e-15"),
        ("64", '64\n[train.inner]\noptimizer = "adam"', "did you mean 'adamw'?"),
        ("64", "64\n[train.inner]\nlearning_rate = 0.1", "did you mean `lr`?"),
        ("64", "64\n[round]\nseconds = inf", "`round.seconds`"),
        ("64", '64\n[codec]\nkind = "topk"', "`codec.kind`"),
        ("64", "64\n[codec]\nbits = 4", "`codec.kind` is missing"),
        ("64", '64\n[checkpoint]\ngguf = "q4_k_m"', "`checkpoint.gguf`"),
        ("64", f"64\n{LORA}rank = 0", "`train.target.rank`"),
        ("64", f"64\n{LORA}modules = []", "train.target.modules"),
        ("64", f'64\n{LORA}modules = ["c_attn"]', "`c_attn`"),
        ("64", f'64\n{LORA}modules = ["embed_tokens"]', "`embed_tokens`"),
        ("64", f'64\n{LORA}modules = ["lm_head"]', "`lm_head`"),
        ('"model"', '"modle"', "modle"),
        ('"model"', '"package:../x"', "package:../x"),
        ('"model"', '"data.jsonl"', "data.jsonl"),
        ('"data.jsonl"', '"missing.jsonl"', "missing.jsonl"),
        ('"data.jsonl"', '"owner/name"', "owner/name"),
    ],
)
def test_a_setting(run: Path, before: str, after: str, where: str) -> None:
    assert before in RUN
    (run / "run.toml").write_text(RUN.replace(before, after, 1), encoding="utf-8")
    refused(run, where)


# The data


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "data.jsonl"),
        (b"\n\n", "data.jsonl"),
        (b'{"text": "a"}\n{"text": \n', "data.jsonl:2"),
        (b'{"text": "caf\xe9"}\n', "data.jsonl"),
        (b'{"text": "a\\u0000b"}\n', "data.jsonl:1"),
        (b'{"text": "a\\ud800b"}\n', "data.jsonl:1"),
        (b'{"text": 12}\n', "data.jsonl:1"),
        (b'{"messages": []}\n', "data.jsonl:1"),
        (b'{"messages": [{"role": "usr", "content": "a"}]}\n', "data.jsonl:1"),
        (b'{"messages": [{"role": "user", "content": "a"}]}\n', "data.jsonl:1"),
        (b"[" * 100_000, "data.jsonl"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "data.jsonl"),
    ],
)
def test_the_data(run: Path, data: bytes, where: str) -> None:
    (run / "data.jsonl").write_bytes(data)
    refused(run, where)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.docx", b"PK"),
        ("d.parquet", b"PAR1 no"),
        ("d.jsonl.gz", b"no gzip"),
        ("e.jsonl.gz", gzip.compress(b'{"text": "abc"}\n' * 1000, mtime=0)[:30]),
    ],
)
def test_a_file_of_another_kind(run: Path, name: str, data: bytes) -> None:
    (run / name).write_bytes(data)
    (run / "run.toml").write_text(RUN.replace("data.jsonl", name), encoding="utf-8")
    refused(run, name)


def test_a_link_that_leads_nowhere(run: Path) -> None:
    (run / "data.jsonl").unlink()
    (run / "data.jsonl").symlink_to("gone")
    refused(run, "data.jsonl")


# The model


def configured(**changes: object) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return change


def replaced(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(data)


def removed(pattern: str) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        for path in model.glob(pattern):
            path.unlink()

    return change


def cut(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (removed("*"), "model"),
        (removed("config.json"), "config.json"),
        (removed("*.safetensors"), "safetensors"),
        (removed("token*"), "tokenizer"),
        (replaced("config.json", b"{"), "config.json"),
        (replaced("config.json", b"[]"), "config.json"),
        (replaced("config.json", b'{"model_type": "zork"}'), "zork"),
        (replaced("config.json", b'{"model_type": "clip"}'), "clip"),
        (replaced("generation_config.json", b"no"), "generation_config.json"),
        (replaced("tokenizer.json", b"{"), "tokenizer"),
        (replaced("model.safetensors", b""), "model.safetensors"),
        (replaced("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
        (cut, "model.safetensors"),
        (configured(vocab_size="many"), "vocab_size"),
        (configured(vocab_size=100), "vocab_size"),
        (configured(hidden_size=128), "shape"),
        (configured(num_hidden_layers=-1), "num_hidden_layers -1"),
        (configured(quantization_config={"quant_method": "gptq"}), "quantized"),
        (replaced("chat_template.jinja", b"{% for %}"), "chat template"),
    ],
)
def test_the_model(run: Path, change: Callable[[Path], object], where: str) -> None:
    change(run / "model")
    refused(run, where)


def test_a_gguf_file_that_is_none(run: Path) -> None:
    (run / "m.gguf").write_bytes(b"GGUF" + bytes(50))
    (run / "run.toml").write_text(RUN.replace('"model"', '"m.gguf"'), encoding="utf-8")
    refused(run, "m.gguf")
