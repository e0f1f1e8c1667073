"""Runs unmodified clients of the Hugging Face Hub against a gateway."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways import environment
from tests.support.programs import DEADLINE

HF = Path(sys.executable).with_name("hf")


@dataclass(frozen=True)
class Clients:
    """Runs programs that find the gateway by HF_ENDPOINT, with a separate cache."""

    url: str
    home: Path
    interpreter: Path = Path(sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        return environment() | {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "*",
            "LC_ALL": "C",
        }

    def run(self, *command: object, status: int = 0) -> str:
        done = subprocess.run(
            [str(word) for word in command], env=self.environment, capture_output=True, text=True,
            timeout=4 * DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{command[0]} ended with {done.returncode}: {done.stderr[-3000:]}"
        return done.stdout

    def python(self, program: str, *arguments: object) -> Any:
        """The last line that the program prints, which is JSON. It sees no other environment's packages."""
        return json.loads(self.run(self.interpreter, "-I", "-c", program, *arguments).splitlines()[-1])


def program(name: str) -> str:
    """The path of a program; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found
