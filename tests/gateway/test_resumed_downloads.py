"""Unmodified clients resume downloads when the server was killed: the table in docs/CHECKPOINTS.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateways import REPO, GatewayProcess, lay_out_files
from tests.support.hub_clients import Clients, program
from tests.support.programs import DEADLINE

LARGE = 64 * 2**20
"""Bytes of a file that does not fit into the buffers between a server and its client."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An archive with one large file, and that file."""
    data = os.urandom(LARGE)
    folder = tmp_path_factory.mktemp("large")
    lay_out_files(folder, {"model.safetensors": data, "config.json": b"{}"})
    return folder, data


@pytest.fixture
def server(large: tuple[Path, bytes]) -> Iterator[GatewayProcess]:
    server = GatewayProcess(large[0])
    yield server
    server.kill()


def cut_short(curl: str, server: GatewayProcess, url: str, target: Path) -> int:
    """Download with curl, and kill the server in between. Returns the number of bytes received."""
    with subprocess.Popen([curl, "-sS", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None
        received = client.stdout.read(2**20)
        server.kill()  # most of the file is not sent yet
        received += client.stdout.read()
        assert client.wait(DEADLINE) != 0, "curl reports an incomplete download"
    target.write_bytes(received)
    assert 2**20 <= len(received) < LARGE
    return len(received)


def test_curl_resumes_when_the_server_was_killed(
    large: tuple[Path, bytes], server: GatewayProcess, tmp_path: Path
) -> None:
    curl, target = program("curl"), tmp_path / "model"
    url = f"{server.url}/{REPO}/resolve/main/model.safetensors"
    received = cut_short(curl, server, url, target)
    again = GatewayProcess(large[0], server.port)
    try:
        command = (curl, "-sS", "-C", "-", "-o", target, "-w", "%{http_code} %{size_download}", url)
        clients = Clients(again.url, tmp_path)
        assert clients.run(*command) == f"206 {LARGE - received}"
        assert target.read_bytes() == large[1]
        assert clients.run(*command).startswith("416 "), "there is nothing left to resume"
        assert target.read_bytes() == large[1]
    finally:
        again.kill()


def test_wget_resumes(large: tuple[Path, bytes], server: GatewayProcess, tmp_path: Path) -> None:
    wget, target = program("wget"), tmp_path / "model.safetensors"
    target.write_bytes(large[1][: LARGE // 3])
    url = f"{server.url}/checkpoints/round-000012/model.safetensors"
    clients = Clients(server.url, tmp_path)
    for _ in range(2):  # the second time there is nothing left
        clients.run(wget, "-q", "-c", "-P", tmp_path, url)
        assert target.read_bytes() == large[1]


RESUME = """
import json, sys
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import tqdm

class Bar(tqdm):
    waited = False
    def update(self, n=1):
        if n and not Bar.waited:
            Bar.waited = True
            print("the first bytes are here", flush=True)
            sys.stdin.readline()
        return super().update(n)

print(json.dumps(hf_hub_download(sys.argv[1], "model.safetensors", tqdm_class=Bar)))
"""


def test_huggingface_hub_resumes_when_the_server_was_killed(
    large: tuple[Path, bytes], server: GatewayProcess, tmp_path: Path
) -> None:
    """Its progress bar signals when to kill the server, and waits until another one runs."""
    environment = Clients(server.url, tmp_path).environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", RESUME, REPO], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as client:  # fmt: skip
        assert client.stdout is not None
        assert client.stdout.readline() == "the first bytes are here\n"
        server.kill()
        again = GatewayProcess(large[0], server.port)
        try:
            out, err = client.communicate("continue\n", timeout=DEADLINE)
        finally:
            again.kill()
    assert client.returncode == 0, err[-3000:]
    assert "Trying to resume" in err
    assert Path(json.loads(out)).read_bytes() == large[1]
