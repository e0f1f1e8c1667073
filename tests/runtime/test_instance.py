"""A folder has one instance number on one machine; a copy has another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from barnraise.contract.records import Presence
from barnraise.runtime import instance
from barnraise.runtime.instance import instance_number
from tests.support.parts import ADA, BEN, presence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ada"
    made.mkdir()
    return made


def test_a_restart_has_the_same_number_and_a_heartbeat_can_carry_it(folder: Path) -> None:
    number = instance_number(folder, ADA.public)
    (folder / "peer.key").write_bytes(b"key")
    assert instance_number(folder, ADA.public) == number
    assert isinstance(presence(instance=number), Presence)


def test_a_copy_has_another_number_and_a_renamed_folder_the_same(folder: Path) -> None:
    number = instance_number(folder, ADA.public)
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    assert instance_number(copy, ADA.public) != number
    assert instance_number(folder.rename(folder.with_name("moved")), ADA.public) == number


def test_a_clone_of_the_machine_and_another_key_have_other_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = instance_number(folder, ADA.public)
    assert instance_number(folder, BEN.public) != number
    boot = folder / "boot_id"
    boot.write_text("6f9c\n")
    monkeypatch.setattr(instance, "_BOOT_ID", boot)
    assert instance_number(folder, ADA.public) != number


def test_a_system_without_boot_ids_has_numbers_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "_BOOT_ID", folder / "none")
    assert instance_number(folder, ADA.public) == instance_number(folder, ADA.public)
