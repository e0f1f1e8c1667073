"""What is no whole model in a .gguf file is refused by its header, before a conversion begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from barnraise.core.errors import ModelUnusable
from barnraise.models.base_model import resolve
from barnraise.models.gguf_header import check_header
from tests.support.gguf_file import write_gguf

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"


def refusal(path: Path) -> ModelUnusable:
    with pytest.raises(ModelUnusable) as refused:
        check_header(path)
    assert refused.value.exit_code == 2
    assert str(path) in refused.value.problem or path.name in refused.value.problem
    return refused.value


def test_a_whole_file_passes(tmp_path: Path) -> None:
    check_header(write_gguf(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"kind": "adapter"}, "holds no model (its general.type is adapter)"),
        ({"kind": "mmproj"}, "holds no model"),
        ({"parts": 3}, "is one of the 3 parts"),
        ({"sizes": False}, "has no llama.block_count"),
        ({"tensors": 0}, "has no tensors"),
    ],
)
def test_what_is_no_whole_model(made: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refusal(write_gguf(tmp_path / "m.gguf", **made)).problem


@pytest.mark.parametrize("kept", [0, 3, 20, 100, -1])
def test_a_cut_file(kept: int, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:kept])
    assert "is cut" in refusal(path).problem


def test_a_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "with space").mkdir()
    path = tmp_path / "with space" / "m.gguf"
    path.write_text(POINTER)
    error = refusal(path)
    assert "is a Git LFS pointer" in error.problem
    assert f"git -C '{path.parent}' lfs pull" in error.fix


def test_the_name_may_have_capitals(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "M.GGUF", kind="adapter")
    with pytest.raises(ModelUnusable, match="holds no model"):
        resolve(str(path), None, tmp_path / "cache")
