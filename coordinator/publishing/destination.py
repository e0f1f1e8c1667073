"""Where a mirror is written: a folder, or any file system that fsspec supports (S3, SFTP, …)."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from barnraise.core.errors import MachineError, RefusedError, Unreachable, UserError
from barnraise.core.ids import BlobHash
from barnraise.runtime.files import disk_errors, replacing

CHUNK = 1 << 20
"""Bytes copied at once."""
_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""This package's extra by protocol."""


@dataclass(frozen=True)
class Destination:
    """A folder of a file system. Paths are those of the archive.

    Methods raise RefusedError, UserError, Unreachable, DiskFull.
    """

    fs: Any
    root: str
    name: str
    """As the user typed it."""

    @classmethod
    def of(cls, text: str) -> Destination:
        """Raises UserError for an address that fsspec does not support, MachineError without its package."""
        protocol = text.partition("://")[0] if "://" in text else "file"
        try:
            fs, root = fsspec.core.url_to_fs(text)
        except ImportError as error:
            extra = _EXTRAS.get(protocol)
            install = f"pip install '.[{extra}]' in the checkout" if extra else str(error)
            raise MachineError(
                f"publishing to {protocol}:// needs a package that is not installed", fix=f"{install}."
            ) from None
        except ValueError as error:
            raise UserError(
                f"cannot publish to {text!r}: {error}",
                fix="Give hf://OWNER/NAME, the path of a folder, or an address such as s3://BUCKET/FOLDER.",
            ) from None
        return cls(fs, root.rstrip("/"), text)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file there, by path."""
        with self._errors():
            self.fs.invalidate_cache()
            found: dict[str, dict[str, Any]] = self.fs.find(self.root, detail=True)
        below = len(self.root) + 1
        return {path[below:]: info["size"] for path, info in found.items() if path[below:]}

    def read(self, path: str, limit: int) -> bytes:
        """At most one byte more than `limit`."""
        with self._errors(), self.fs.open(self._at(path), "rb") as file:
            data: bytes = file.read(limit + 1)
            return data

    def hash(self, path: str) -> BlobHash:
        digest = hashlib.sha256()
        with self._errors(), self.fs.open(self._at(path), "rb") as file:
            while piece := file.read(CHUNK):
                digest.update(piece)
        return BlobHash(digest.hexdigest())

    def put(self, source: Path, path: str) -> None:
        """Copy a local file there, whole or not at all."""
        if isinstance(self.fs, LocalFileSystem):  # fsspec writes these in place
            with replacing(Path(self._at(path))) as target, source.open("rb") as file:
                while piece := file.read(CHUNK):
                    target.write(piece)
            return
        with self._errors():
            self.fs.put_file(str(source), self._at(path))

    def write(self, path: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.put(Path(file.name), path)

    def remove(self, path: str) -> None:
        with self._errors():
            self.fs.rm_file(self._at(path))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the errors of fsspec's file systems as Barnraise errors. `disk_errors` does so for a disk."""
        if isinstance(self.fs, LocalFileSystem):
            with disk_errors(Path(self.root)):
                yield
            return
        try:
            yield
        except PermissionError as error:
            raise RefusedError(
                f"{self.name} may not be written with this login: {error}",
                fix="Log in with an account that may write (for S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and"
                " AWS_SECRET_ACCESS_KEY), or choose another destination.",
            ) from None
        except FileNotFoundError as error:
            raise UserError(
                f"there is no {self.name}: {error}",
                fix="Create the bucket or folder first, or correct its name.",
            ) from None
        except OSError as error:
            raise Unreachable(
                f"{self.name} cannot be written: {error}",
                fix="Check the connection and run the command again: it resumes.",
            ) from error
        except _client_errors() as error:
            raise Unreachable(
                f"{self.name} cannot be reached: {error}",
                fix="Check the login (for S3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
                " and the connection, and run the command again: it resumes.",
            ) from error


def _client_errors() -> tuple[type[Exception], ...]:
    """What S3's client raises in addition to OSError: no login, no connection."""
    if importlib.util.find_spec("botocore") is None:
        return ()
    error: type[Exception] = importlib.import_module("botocore.exceptions").BotoCoreError
    return (error,)
