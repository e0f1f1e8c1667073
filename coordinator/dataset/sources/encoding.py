"""Opens text files as UTF-8, with any byte order mark, and refuses what is not text."""

from __future__ import annotations

import codecs
import io
import json
import re
from pathlib import Path

from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.compression import Chunks, open_unpacked

_BUFFER = 1 << 18
_HEAD = 8192
"""Bytes in which a file shows what it is."""
_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (b"PK\x03\x04", "a ZIP archive, or an office document", "Unpack it, or export it as text or CSV."),
    (b"%PDF-", "a PDF document", "Extract its text first, such as with `pdftotext`."),
    (b"PAR1", "a Parquet file", "Name it `.parquet`."),
    (b"ARROW1", "an Arrow file", "Convert it to Parquet."),
    (b"\xd0\xcf\x11\xe0", "an office document", "Export it as text or CSV."),
    (b"{\\rtf", "an RTF document", "Save it as plain text."),
    (b"SQLite format 3", "a SQLite database", "Export its table as CSV."),
    (b"\x89PNG", "a picture", "Remove it."),
    (b"\xff\xd8\xff", "a picture", "Remove it."),
    (b"GIF8", "a picture", "Remove it."),
    (b"GGUF", "a GGUF model", "Give it as `source` under [model]."),
    (b"\x7fELF", "a program", "Remove it."),
    (b"\x1f\x8b", "compressed twice", "Unpack it once."),
    (b"\x28\xb5\x2f\xfd", "compressed twice", "Unpack it once."),
)
_LFS = b"version https://git-lfs.github.com/spec/"
_ESCAPED = re.compile("[\udc80-\udcff]")
_MOST_NULS = 1 / 50
"""Share of NUL bytes above which a file is not text; a rare one is the fault of its row alone."""


def open_text(path: Path) -> io.BufferedReader:
    """The bytes of `path`, unpacked, as UTF-8 without a byte order mark; they may still be invalid.

    Raises OSError; DatasetError for a file that is not text.
    """
    stream = open_unpacked(path)
    try:
        return _as_utf8(stream, path)
    except BaseException:
        stream.close()
        raise


def invalid_byte(text: str) -> tuple[int, str] | None:
    """The first byte that is not UTF-8 in text that was decoded with `surrogateescape`: position and byte."""
    found = None if text.isascii() else _ESCAPED.search(text)
    return (found.start(), f"0x{ord(found[0]) & 0xFF:02x}") if found else None


NOT_UTF8 = "Save the file as UTF-8: for Western text, `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`."


def _as_utf8(stream: io.BufferedReader, path: Path) -> io.BufferedReader:
    head = stream.peek(_HEAD)[:_HEAD]
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if encoding is not None:
        return _transcoded(stream, encoding, path)
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
        head = head.removeprefix(codecs.BOM_UTF8)
    _refuse_other_kinds(head, path)
    return stream


def _transcoded(stream: io.BufferedReader, encoding: str, path: Path) -> io.BufferedReader:
    decode = codecs.getincrementaldecoder(encoding)("surrogatepass").decode

    def read(size: int) -> bytes:
        # A character of UTF-16 or UTF-32 takes at most twice its bytes in UTF-8.
        while data := stream.read(max(4, size // 2 & ~3)):
            text = _decoded(data, final=False)
            if text:
                return text.encode(errors="surrogatepass")  # invalid UTF-8: the fault of its row alone
        return _decoded(b"", final=True).encode()

    def _decoded(data: bytes, *, final: bool) -> str:
        try:
            return decode(data, final)
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{path} begins as {encoding.upper()} and is not valid: {error.reason}",
                fix="Save it as UTF-8.",
            ) from None

    return io.BufferedReader(Chunks(read, stream.close), _BUFFER)


def refuse_json(stream: io.BufferedReader, path: Path) -> None:
    """Raise DatasetError for rows of JSON in a file whose name says plain text: they would be trained on as
    they are written."""
    first = stream.peek(_HEAD)[:_HEAD].partition(b"\n")[0].strip()
    if not (first.startswith(b'{"') and first.endswith(b"}")):
        return
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return
    raise DatasetError(f"{path} holds JSON lines, not plain text", fix="Name it `.jsonl`.")


def refuse_web_page(stream: io.BufferedReader, path: Path) -> None:
    """Raise DatasetError for a page that a server sent instead of a file of rows."""
    head = stream.peek(_HEAD)[:_HEAD].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise DatasetError(
            f"{path} is a web page, not data",
            fix="Download the file itself: on the page of a file, its link is called `raw` or `download`.",
        )


def _refuse_other_kinds(head: bytes, path: Path) -> None:
    if head.startswith(_LFS):
        raise DatasetError(
            f"{path} is a pointer of Git LFS: the file itself was not downloaded",
            fix="Run `git lfs install`, then `git lfs pull`, in its repository.",
        )
    for magic, kind, fix in _KINDS:
        if head.startswith(magic):
            raise DatasetError(f"{path} is {kind}, not text", fix=fix)
    if head.count(0) <= len(head) * _MOST_NULS:
        return
    if max(head[::2].count(0), head[1::2].count(0)) > len(head) * 0.4:
        raise DatasetError(
            f"{path} seems to be UTF-16 without a byte order mark",
            fix="Save it as UTF-8: `iconv -f UTF-16LE -t UTF-8 OLD > NEW` (or UTF-16BE).",
        )
    raise DatasetError(f"{path} is a binary file, not text", fix="Remove it, or give a text file.")
