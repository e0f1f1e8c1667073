"""`scripts/contribution_path`: what a walk through the files may look like, on a small repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import contribution_path
from scripts.contribution_path import HEADING, MOST_FILES, MOST_LINES, files_of, imports, violations
from scripts.contribution_path import WALK as WALK_FILE

WALK = f"""\
# Architecture

See `peer/not_on_the_walk.py`.

## {HEADING}

It begins on the volunteer's machine (`peer/no_item.py`).

1. `peer/loop.py` takes a step with `peer/trainer.py`,
   which `proto/barnraise/fold.py` folds.
2. **Close**: `coordinator/close/__init__.py` ends the round.

### Other

1. `coordinator/publish.py`

## Next

1. `peer/later.py`
"""
FILES = {
    "peer/loop.py": "from peer.trainer import Trainer\n",
    "peer/trainer.py": "import torch\nfrom barnraise import fold\n",
    "proto/barnraise/fold.py": "import math\n",
    "coordinator/close/__init__.py": "def late() -> None:\n    import barnraise.fold\n",
    "coordinator/publish.py": "from . import close\nfrom .close import late\n",
}
PATH = list(FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_files_of_the_ordered_lists_of_the_section_are_the_walk() -> None:
    assert files_of(WALK) == PATH


@pytest.mark.parametrize("text", ["", "# Other\n\n1. `a.py`\n", f"## {HEADING}\n\nIn prose: `a.py`.\n"])
def test_a_document_without_a_walk_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no ordered list"):
        files_of(text)


def test_a_path_has_no_violations(root: Path) -> None:
    assert violations(PATH, root) == []
    assert violations(PATH[2::-1], root) == [], "either of two files may import the other"


def test_a_path_does_not_return_from_the_coordinator_to_the_peer(root: Path) -> None:
    found = violations(PATH[::-1], root)
    assert [name in text for name, text in zip(PATH[1::-1], found, strict=True)] == [True, True]


def test_the_architecture_walks_a_path() -> None:
    assert violations(files_of(WALK_FILE.read_text(encoding="utf-8")), contribution_path.ROOT) == []


def test_what_is_no_path_is_reported(root: Path) -> None:
    (unconnected,) = violations([PATH[0], PATH[2]], root)
    assert PATH[2] in unconnected
    (missing,) = violations([*PATH, "peer/nowhere.py"], root)
    assert "peer/nowhere.py" in missing
    (repeated,) = violations([*PATH[:2], PATH[0]], root)
    assert PATH[0] in repeated


def test_long_files_and_long_walks_are_reported(root: Path) -> None:
    text = FILES[PATH[0]]
    (root / PATH[0]).write_text(text + "\n" * (MOST_LINES - 1), encoding="utf-8")
    assert violations(PATH, root) == []
    (root / PATH[0]).write_text(text + "\n" * MOST_LINES, encoding="utf-8")
    (long,) = violations(PATH, root)
    assert str(MOST_LINES + 1) in long

    chain = [f"peer/step{number}.py" for number in range(MOST_FILES + 1)]
    for number, name in enumerate(chain):
        (root / name).write_text(f"import peer.step{number + 1}\n", encoding="utf-8")
    assert violations(chain[:-1], root) == []
    (many,) = violations(chain, root)
    assert str(MOST_FILES + 1) in many


def test_a_package_is_not_imported_by_the_name_of_its_parent(root: Path) -> None:
    assert imports(root, "coordinator/publish.py", "coordinator/close/__init__.py")
    assert not imports(root, "peer/trainer.py", "peer/loop.py")
    assert not imports(root, "peer/loop.py", "proto/barnraise/fold.py")


def test_the_command_fails_on_a_violation(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    walk = root / "walk.md"
    walk.write_text(WALK, encoding="utf-8")
    monkeypatch.setattr(contribution_path, "ROOT", root)
    monkeypatch.setattr("sys.argv", ["contribution_path", str(walk)])
    assert contribution_path.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"5 files of at most {MOST_FILES}"
    (root / PATH[0]).unlink()
    assert contribution_path.main() == 1
    assert PATH[0] in capsys.readouterr().err
