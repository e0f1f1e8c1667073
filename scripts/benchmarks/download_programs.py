"""The processes of `scripts/bench download`.

python -m scripts.benchmarks.download_programs serve FOLDER                  the gateway
python -m scripts.benchmarks.download_programs fetch CLIENT URL              one timed download
python -m scripts.benchmarks.download_programs crowd URL COUNT RATE HASH     many slow downloads
python -m scripts.benchmarks.download_programs train SECONDS                 a training loop
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from barnraise.gateway import listen

BUFFER = 256 * 1024
"""Bytes of a slow reader's receive buffer."""
POLL_SECONDS = 0.02


async def _serve(folder: Path) -> None:
    listening = await listen(folder, "127.0.0.1", 0)
    print(listening.port, flush=True)
    lateness: list[float] = []
    watch = asyncio.create_task(_watch(lateness))
    while await asyncio.to_thread(sys.stdin.readline):
        late = sorted(lateness) or [0.0]
        lateness.clear()
        delays = {"median": late[len(late) // 2], "most": late[len(late) * 99 // 100], "worst": late[-1]}
        print(json.dumps(delays), flush=True)
    watch.cancel()


async def _watch(lateness: list[float]) -> None:
    """Record by how many milliseconds each of many short pauses is too long."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + POLL_SECONDS
        await asyncio.sleep(POLL_SECONDS)
        lateness.append(1000 * (loop.time() - due))


def _fetch(client: str, url: str) -> float:
    """Megabytes per second of one download, which is discarded."""
    if client == "curl":
        command = ["curl", "-sSf", "-o", os.devnull, "-w", "%{speed_download}", url]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1e6
    from huggingface_hub.file_download import http_get

    with open(os.devnull, "wb") as nowhere:
        began = time.perf_counter()
        http_get(url, nowhere)
        seconds = time.perf_counter() - began
    with contextlib.closing(socket.create_connection(_address(url))) as connection:
        connection.sendall(f"HEAD {_path(url)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = connection.makefile("rb").read().decode().lower()
    return int(head.partition("content-length: ")[2].split("\r\n")[0]) / seconds / 1e6


async def _crowd(url: str, count: int, rate: float, name: str) -> int:
    """How many of `count` downloads at `rate` bytes per second were complete."""
    return sum(await asyncio.gather(*(_slowly(url, rate, name) for _ in range(count))))


async def _slowly(url: str, rate: float, name: str) -> bool:
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    small.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(small, _address(url))
    reader, writer = await asyncio.open_connection(sock=small, limit=BUFFER)
    writer.write(f"GET {_path(url)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    digest, came, began = hashlib.sha256(), 0, loop.time()
    while chunk := await reader.read(BUFFER // 4):
        digest.update(chunk)
        came += len(chunk)
        await asyncio.sleep(max(0.0, began + came / rate - loop.time()))
    writer.close()
    return head.startswith(b"HTTP/1.1 200") and digest.hexdigest() == name


def _train(seconds: float) -> float:
    """Steps per second of matrix products on one thread."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((512, 512), dtype=np.float32) for _ in range(2))
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        b = a @ b
        b /= np.abs(b).max()
        steps += 1
    return steps / (time.perf_counter() - began)


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.split("/", 3)[2].partition(":")
    return host, int(port)


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def main() -> None:
    result: Any
    match sys.argv[1:]:
        case ["serve", folder]:
            result = asyncio.run(_serve(Path(folder)))
        case ["fetch", client, url]:
            result = _fetch(client, url)
        case ["crowd", url, count, rate, name]:
            result = asyncio.run(_crowd(url, int(count), float(rate), name))
        case ["train", seconds]:
            result = _train(float(seconds))
        case _:
            sys.exit(__doc__)
    print(result)


if __name__ == "__main__":
    main()
