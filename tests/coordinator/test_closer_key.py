"""`coordinator closer-key` prints one key, also while a follower uses its folder."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from barnraise.runtime.files import owned_folder
from coordinator.cli.main import main
from coordinator.run_folder import VOTES


def printed(folder: Path) -> str:
    result = CliRunner().invoke(main, ["closer-key", str(folder)])
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_the_key_is_made_once_and_printed_while_it_is_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "follower"
    key = printed(folder)
    assert len(bytes.fromhex(key)) == 32
    assert (folder / VOTES).is_file()
    with owned_folder(folder, "follower"):
        assert printed(folder) == key
