"""`scripts/bench download`: the HTTP gateway against nginx, and the cost of many simultaneous downloads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from barnraise.contract.archive import INDEX, ArchiveIndex, Repo, Revision, folder_of
from barnraise.contract.manifest import MANIFEST, FileEntry, Manifest
from barnraise.core.identity import Identity
from barnraise.core.ids import blob_hash
from barnraise.core.signed import sign
from scripts.stage import ROOT

RUN, REPO, FILE = "bench", "bench/bench", "model.safetensors"
CROWD_BYTES = 20 * 2**20
"""Size of the file that the crowd downloads."""
POLL_SECONDS = 0.02
START_SECONDS = 60.0
ALONE_SECONDS = 8.0
CROWD_TURNS = 3
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


class DownloadFailed(Exception):
    """A download ended early, or nginx is not installed."""


def measure_download(gigabytes: float, repeats: int, crowd: int, megabits: float) -> str:
    """Both tables, as markdown. Raises DownloadFailed."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o755)  # nginx reads as the user nobody
        one, many = work / "one", work / "many"
        place = folder_of("trained", 0)
        _lay_out(one, int(gigabytes * 2**30))
        name = _lay_out(many, CROWD_BYTES)
        with _gateway(one) as (ours, _, _), _nginx(one, work / "nginx") as (theirs, _):
            direct, hub = f"{place}/{FILE}", f"{REPO}/resolve/main/{FILE}"
            speed = _speed_table(f"{ours}/{direct}", f"{ours}/{hub}", f"{theirs}/{direct}", repeats)
        crowded = _crowd_table(many, work, name, crowd, megabits)
    return f"{gigabytes:g} GiB, {repeats} times each, in turns\n\n{speed}\n\n{crowded}"


def _speed_table(direct: str, hub: str, nginx: str, repeats: int) -> str:
    clients = [client for client in ("curl", "huggingface_hub") if client != "curl" or shutil.which("curl")]
    seen: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for client in clients:
            for server, url in (("nginx", nginx), ("archive", direct), ("Hub", hub)):
                seen.setdefault((client, server), []).append(float(_child("fetch", client, url)))
    rows = ["| client | nginx, MB/s | gateway, archive, MB/s | ÷ nginx | gateway, Hub, MB/s | ÷ nginx |",
            "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for client in clients:
        middle = {server: statistics.median(seen[client, server]) for server in ("nginx", "archive", "Hub")}
        ratios = {
            server: statistics.median(
                ours / theirs
                for ours, theirs in zip(seen[client, server], seen[client, "nginx"], strict=True)
            )
            for server in ("archive", "Hub")
        }
        rows.append(
            f"| {client} | {middle['nginx']:.0f} | {middle['archive']:.0f} | {ratios['archive']:.2f}"
            f" | {middle['Hub']:.0f} | {ratios['Hub']:.2f} |"
        )
    return "\n".join(rows)


@dataclass(frozen=True)
class Crowded:
    """What a crowd of downloads cost the server and a training loop on the same machine."""

    seconds: float
    processor: float
    """CPU seconds of the server."""
    memory: tuple[int, int]
    """Resident bytes of the server: before, and the peak."""
    steps: float
    """Steps per second of the training loop."""


def _crowd_table(many: Path, work: Path, name: str, crowd: int, megabits: float) -> str:
    """In turns: with an idle gateway, with a crowd at nginx, and with a crowd at the gateway."""
    alone, late = [], []
    runs: dict[str, list[Crowded]] = {"nginx": [], "gateway": []}
    for turn in range(CROWD_TURNS):
        with _nginx(many, work / f"nginx-{turn}") as (url, server):
            place = f"{url}/{folder_of('trained', 0)}/{FILE}"
            runs["nginx"].append(_crowded(place, server, name, crowd, megabits))
        with _gateway(many) as (url, server, ask):
            ask()
            alone.append(float(_child("train", str(ALONE_SECONDS))))
            idle = ask()
            place = f"{url}/{REPO}/resolve/main/{FILE}"
            runs["gateway"].append(_crowded(place, server, name, crowd, megabits))
            late.append(f"{_lateness(idle)} idle and {_lateness(ask())} with the crowd")
    steps, bound = statistics.mean(alone), CROWD_BYTES * 8e-6 / megabits
    rows = [_crowd_row(server, found, steps) for server, found in runs.items()]
    return "\n".join(
        [
            f"{crowd} simultaneous downloads of {CROWD_BYTES / 1e6:.0f} MB, every hash verified,"
            f" {megabits:g} Mbit/s each (bound: {bound:.1f} s), {CROWD_TURNS} times;"
            f" a training loop alone: {steps:.1f} steps/s\n",
            "| server | s | memory before, MB | peak, MB | CPU, s | steps/s with it | ÷ alone |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            f"\nDelay of the gateway's event loop (median, 99 %, worst; ms): {'; '.join(late)}",
        ]
    )


def _crowd_row(server: str, runs: list[Crowded], alone: float) -> str:
    seconds, processor, steps = (
        statistics.mean(getattr(run, what) for run in runs) for what in ("seconds", "processor", "steps")
    )
    before, most = (max(run.memory[end] for run in runs) / 1e6 for end in (0, 1))
    return (
        f"| {server} | {seconds:.1f} | {before:.0f} | {most:.0f}"
        f" | {processor:.1f} | {steps:.1f} | {steps / alone:.2f} |"
    )


def _lateness(found: dict[str, float]) -> str:
    return ", ".join(f"{found[which]:.1f}" for which in ("median", "most", "worst"))


def _crowded(url: str, server: psutil.Process, name: str, crowd: int, megabits: float) -> Crowded:
    before, busy = server.memory_info().rss, sum(server.cpu_times()[:2])
    trainer = _start("train", str(CROWD_BYTES * 8e-6 / megabits))
    with _peak(server) as peak:
        began = time.monotonic()
        right = int(_child("crowd", url, str(crowd), str(megabits * 1e6 / 8), name))
        seconds = time.monotonic() - began
    if right != crowd:
        raise DownloadFailed(f"only {right} of {crowd} downloads from {url} were complete")
    busy = sum(server.cpu_times()[:2]) - busy
    return Crowded(seconds, busy, (before, peak[0]), float(_result(trainer)))


def _lay_out(folder: Path, size: int) -> str:
    """Write an archive with one checkpoint of one random file; returns the hash of the file."""
    place = folder / folder_of("trained", 0)
    place.mkdir(parents=True)
    chance, digest = random.Random(size), hashlib.sha256()
    with (place / FILE).open("wb") as file:
        for start in range(0, size, 2**20):
            block = chance.randbytes(min(2**20, size - start))
            digest.update(block)
            file.write(block)
    authority, nothing = Identity.generate(), "0" * 64
    manifest = Manifest(
        form="trained", run=RUN, round=0, state=nothing, previous=nothing, epoch=0, height=0, closers=(),
        charter=nothing, tokens=0,
        held_out=None, files=(FileEntry(name=FILE, hash=digest.hexdigest(), size=size),),
    )  # fmt: skip
    signed = sign(authority, manifest)
    (place / MANIFEST).write_bytes(signed.wire)
    revision = Revision(
        folder=folder_of("trained", 0), manifest=blob_hash(signed.wire), round=0, names=("main",)
    )
    repo = Repo(id=REPO, kind="model", form="trained", revisions=(revision,))
    index = ArchiveIndex(
        version=2, run=RUN, authority=authority.public, closed=0, replay_from=0, repos=(repo,)
    )
    (folder / INDEX).write_text(index.model_dump_json(), encoding="utf-8")
    return digest.hexdigest()


@contextlib.contextmanager
def _gateway(folder: Path) -> Iterator[tuple[str, psutil.Process, Callable[[], dict[str, float]]]]:
    """Its address, its process, and a function: the delays of its event loop since the last call."""
    process = _start("serve", str(folder))
    assert process.stdin is not None
    assert process.stdout is not None
    asking, answers = process.stdin, process.stdout

    def ask() -> dict[str, float]:
        asking.write("\n")
        asking.flush()
        found: dict[str, float] = json.loads(answers.readline())
        return found

    try:
        yield f"http://127.0.0.1:{answers.readline().strip()}", psutil.Process(process.pid), ask
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _nginx(root: Path, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and its worker process."""
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if nginx is None:
        raise DownloadFailed("nginx is not installed: there is nothing to compare with")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder.mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, root=root), encoding="utf-8")
    process = subprocess.Popen(
        [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise DownloadFailed("nginx did not start")
            time.sleep(POLL_SECONDS)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid).children()[0]
    finally:
        process.terminate()
        process.communicate()


@contextlib.contextmanager
def _peak(process: psutil.Process) -> Iterator[list[int]]:
    """The peak of a process's resident memory, in the one entry of the list, at the end of the context."""
    peak, over = [process.memory_info().rss], threading.Event()

    def poll() -> None:
        while not over.wait(POLL_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _start(*arguments: str) -> subprocess.Popen[str]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.download_programs", *arguments],
        cwd=ROOT, env=os.environ | single, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _child(*arguments: str) -> str:
    return _result(_start(*arguments))


def _result(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    if process.returncode:
        raise DownloadFailed(f"{process.args!r} ended with status {process.returncode}:\n{err[-2000:]}")
    return out.strip()
