"""The oldest tools that published checkpoints are made for, in an environment of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

PACKAGES = ("huggingface_hub==0.26.5", "peft==0.13.2", "transformers==4.46.3")
"""Patches of the versions that docs/CHECKPOINTS.md and the model cards name."""
DEADLINE_SECONDS = 280


@dataclass(frozen=True)
class OldTools:
    python: Path

    def run(self, program: str, request: object) -> Any:
        """What a program prints as its last line, in JSON; it reads `request` from its input."""
        done = subprocess.run(
            [str(self.python), "-I", "-c", program],
            input=json.dumps(request), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])


def old_tools() -> OldTools:
    """Installed once per machine, with the torch of this environment. Skips the test where pip cannot."""
    here = sysconfig.get_paths()["purelib"]
    key = hashlib.sha256("\n".join((*PACKAGES, here, sys.version)).encode()).hexdigest()[:16]
    folder = user_cache_path("barnraise") / f"old-tools-{key}"
    python = folder / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "installed").exists():
            venv.create(folder, with_pip=True, clear=True)
            _see(folder, here)
            done = subprocess.run(
                [python, "-I", "-m", "pip", "install", "--quiet", "--only-binary=:all:", *PACKAGES],
                capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"pip cannot get {', '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")
            (folder / "installed").touch()
    return OldTools(python)


def _see(folder: Path, packages: str) -> None:
    """Let an environment use `packages`, the folder of another, for what it does not have itself."""
    own = subprocess.run(
        [folder / "bin" / "python", "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    Path(own.stdout.strip(), "others.pth").write_text(f"{packages}\n", encoding="utf-8")
