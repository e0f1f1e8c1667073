"""Converts a `.gguf` file to a folder of fp32 safetensors, once per machine."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from barnraise.contract.base_files import GGUF
from barnraise.core.errors import DiskFull, ModelUnavailable, ModelUnusable
from barnraise.models.build_limits import bounded_build
from barnraise.models.causal_lm import quiet, refuse_gaps, unreadable
from barnraise.models.gguf_header import check_header
from barnraise.runtime.files import UNFINISHED, make_folder, put_in_place, sweep

_RECIPE = "fp32-1"
"""Version of the conversion; with another value every machine converts again."""


def is_gguf_file(path: Path) -> bool:
    """Whether `path` is a GGUF file by its name."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def converted(gguf: Path, digest: str, cache: Path, progress: Callable[[str], None]) -> Path:
    """The folder with `gguf` (SHA-256 `digest`) as config, tokenizer and fp32 safetensors.

    The folder appears by one rename, so that a killed conversion leaves no incomplete folder. A lock keeps
    programs that start together from converting it twice.
    Raises ModelUnusable or DiskFull.
    """
    folder = cache / "converted" / f"{digest}-{_RECIPE}"
    if folder.exists():
        with full_disk(cache):
            _link_original(gguf, folder)
        return folder
    check_header(gguf)
    with full_disk(cache):
        make_folder(folder.parent)
        with _locked(folder.parent / ".lock", progress):
            if folder.exists():
                return folder
            sweep(folder.parent)
            progress(f"Converting {gguf.name} to safetensors; once on this machine, about half a minute")
            part = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
            try:
                _write(gguf, part)
            except ModelUnavailable as error:
                raise ModelUnusable(error.problem, fix=error.fix) from error
            else:
                _link_original(gguf, part)
                put_in_place(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return folder


@contextmanager
def _locked(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("another program converts a model: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _link_original(gguf: Path, folder: Path) -> None:
    """Have `folder` name the file that it was converted from, so that a run can serve that file."""
    link = folder / GGUF
    if not link.is_symlink() or link.readlink() != gguf:
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder.parent) as scratch:
            made = Path(scratch) / GGUF
            made.symlink_to(gguf)
            os.replace(made, link)


def _write(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with quiet():
        # The progress bar of dequantizing ignores the logging settings.
        with unreadable(gguf), bounded_build(gguf), redirect_stderr(OtherThreads(sys.stderr)):
            model, report = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                quantization_config=GgufConfig(dequantize=True),  # packed weights cannot be saved
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
            )
        refuse_gaps(report, gguf)
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)


class OtherThreads(io.TextIOBase):
    """Passes on what other threads write, such as log lines; drops what the thread that made it writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._silenced = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._silenced else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """Turn "no space left" of any library into DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _disk_full(where) from error
    except SafetensorError as error:  # contains the system's error only as text
        if f"os error {errno.ENOSPC}" not in str(error):
            raise
        raise _disk_full(where) from error


def _disk_full(where: Path) -> DiskFull:
    return DiskFull(
        f"the disk that holds {where} is full", fix="Free some gigabytes there and run the command again."
    )
