"""llama.cpp for tests: the prebuilt binary of node-llama-cpp, downloaded from npm once per machine."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

VERSION = "3.22.1"
"""Of node-llama-cpp."""
_PROGRAM = Path(__file__).with_suffix(".mjs")
_BINARIES = {
    ("linux", "x86_64"): "linux-x64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "arm64"): "mac-arm64-metal",
}
DEADLINE_SECONDS = 240


@dataclass(frozen=True)
class LlamaCpp:
    node: str
    package: Path

    def tokens(self, model: Path, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, its special tokens read as such, nothing put before it."""
        found: list[list[int]] = self._ask(model, None, texts=texts)["tokens"]
        return found

    def logits(self, model: Path, ids: Sequence[int], lora: Path | None = None) -> list[list[float]]:
        """For each token of `ids`, those of the next one."""
        found: list[list[float]] = self._ask(model, lora, ids=[ids])["logits"][0]
        return found

    def continued(self, model: Path, ids: Sequence[int], count: int, lora: Path | None = None) -> list[int]:
        """The most likely `count` tokens after `ids`, or fewer where the text ends."""
        found: list[int] = self._ask(model, lora, ids=[ids], greedy=count)["continued"][0]
        return found

    def _ask(
        self, model: Path, lora: Path | None, *, texts: Sequence[str] = (), ids: object = (), greedy: int = 0
    ) -> Any:
        request = {"model": str(model), "texts": texts, "ids": ids, "greedy": greedy}
        if lora is not None:
            request["lora"] = str(lora)
        done = subprocess.run(
            [self.node, str(_PROGRAM), str(self.package)],
            input=json.dumps(request), capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def llama_cpp() -> LlamaCpp:
    """Skips the test where node or npm is missing, there is no binary for this machine, or no network."""
    node, npm = shutil.which("node"), shutil.which("npm")
    binary = _BINARIES.get((sys.platform, platform.machine()))
    if node is None or npm is None or binary is None:
        pytest.skip(
            "llama.cpp is run by node and npm, which are not here (or have no binary for this machine)"
        )
    folder = user_cache_path("barnraise") / f"node-llama-cpp-{VERSION}"
    package = folder / "node_modules" / "node-llama-cpp"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (folder / "installed").exists():
            # without the optional ones, which are binaries for GPUs: 0.6 GB
            wanted = [f"node-llama-cpp@{VERSION}", f"@node-llama-cpp/{binary}@{VERSION}"]
            done = subprocess.run(
                [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--omit=optional", *wanted],
                capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"npm cannot get node-llama-cpp: {done.stderr.strip()[-200:]}")
            (folder / "installed").touch()
    return LlamaCpp(node, package)
