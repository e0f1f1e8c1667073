"""Files and folders of training data as people have them: the cases of docs/DATA.md."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

from barnraise.contract.spec import SourceSpec
from barnraise.core.errors import DatasetError
from coordinator.dataset.rows.row import BadRow, OtherSplitRow
from coordinator.dataset.sources.documents import Cutting
from coordinator.dataset.sources.read import open_source
from coordinator.messages.source_files import source_files

TEXTS = ("one", "zwei, drei", 'vier "5"\nsechs')
ROWS: list[dict[str, object]] = [{"text": text} for text in TEXTS]
CHATS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}]}
    for text in TEXTS
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PRETTY = [json.dumps(row, indent=2) for row in ROWS]
CSV = 'text,source\none,a\n"zwei, drei",b\n"vier ""5""\nsechs",c\n'
CARD = """\
---
configs:
- config_name: en
  data_files:
  - split: train
    path: en/train-*.jsonl
  - split: test
    path: en/test.jsonl
- config_name: fr
  data_files: fr/*.jsonl
---
# A dataset
"""

Write = Callable[[Path], None]


def text(content: str, encoding: str = "utf-8") -> Write:
    return raw(content.encode(encoding))


def raw(content: bytes) -> Write:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def folder(files: dict[str, str | bytes]) -> Write:
    def write(path: Path) -> None:
        for name, content in files.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def zstd(content: bytes, frames: int = 1) -> Write:
    def write(path: Path) -> None:
        import pyarrow

        path.write_bytes(pyarrow.compress(content, codec="zstd", asbytes=True) * frames)

    return write


def parquet(rows: list[dict[str, object]]) -> Write:
    def write(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet as writer

        writer.write_table(pyarrow.Table.from_pylist(rows), path)

    return write


def parquet_twice(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet as writer

    writer.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), path)


def arrow(rows: list[dict[str, object]], *, indexed: bool = False) -> Write:
    def write(path: Path) -> None:
        import pyarrow

        table = pyarrow.Table.from_pylist(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = pyarrow.ipc.new_file if indexed else pyarrow.ipc.new_stream
        with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema) as out:
            out.write_table(table)

    return write


def saved_to_disk(path: Path) -> None:
    folder({"dataset_dict.json": '{"splits": ["train", "test"]}'})(path)
    for split in ("train", "test"):
        arrow(ROWS)(path / split / "data-00000-of-00001.arrow")
        folder({"dataset_info.json": "{}", "state.json": "{}"})(path / split)


def linked(path: Path) -> None:
    folder({"text.txt": "text", "inner/a.txt": "a"})(path)
    (path / "again").symlink_to(path / "inner")
    (path / "loop").symlink_to(path)


def link_to_nothing(path: Path) -> None:
    path.mkdir()
    (path / "rows.jsonl").symlink_to("elsewhere.jsonl")


def link_to_itself(path: Path) -> None:
    folder({"text.txt": "text"})(path)
    (path / "self").symlink_to("self")


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
BOOK = "".join(f"Paragraph {number}. " + "word " * 200 + "\n\n" for number in range(9))

FILES: dict[str, tuple[str, Write]] = {
    "lines.jsonl": ("JSON lines", text(LINES)),
    "lines.ndjson": ("JSON lines, no line end at the end", text(LINES.rstrip("\n"))),
    "windows.jsonl": (
        "JSON lines with CRLF, a byte order mark and blank lines",
        raw(b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n\r\n").encode()),
    ),
    "lines.json": ("JSON lines, called `.json`", text(LINES)),
    "array.json": ("an array", text(json.dumps(ROWS))),
    "array.jsonl": ("an array over several lines, called `.jsonl`", text(json.dumps(CHATS, indent=1))),
    "empty-array.json": ("an empty array", text("[]")),
    "around.json": ("an object around the list", text(json.dumps({"version": 1, "data": ROWS}, indent=2))),
    "one.json": ("one record", text(json.dumps(CHATS[0], indent=2))),
    "pretty.jsonl": (
        "objects over several lines each",
        text("\n".join(PRETTY)),
    ),
    "two-lists.json": ("an object around two lists", text(json.dumps({"a": ROWS, "b": ROWS}))),
    "splits.json": (
        "an object around a list for each split",
        text(json.dumps({"train": ROWS, "test": ROWS})),
    ),
    "comma-array.json": ("an array with a comma after its last element", text('[\n{"text": "a"},\n]')),
    "comments.json": ("an array after a comment", text("// mine\n" + json.dumps(ROWS))),
    "page.json": ("a web page, as of a failed download", text("<!DOCTYPE html>\n<html></html>\n")),
    "strings.json": ("an array of strings", text(json.dumps(TEXTS))),
    "broken-array.json": ("an array with a fault", text('[\n{"text": "a"},\n{"text" "b"}\n]')),
    "cut-array.json": ("an array whose end is missing", text(json.dumps(ROWS, indent=1)[:-9])),
    "broken.jsonl": ("JSON lines, one of them broken", text('{"text": "a"}\n{"text": \n{"text": "c"}\n')),
    "first-broken.jsonl": ("JSON lines, the first broken", text('{"text": \n{"text": "c"}\n')),
    "commas.jsonl": ("JSON lines with commas between them", text('{"text": "a"},\n{"text": "c"}\n')),
    "comment.jsonl": ("JSON lines after a comment", text('# mine\n{"text": "c"}\n')),
    "nan.jsonl": (
        "JSON lines with NaN, which pandas writes",
        text('{"prompt": "a", "input": NaN, "output": "b"}\n'),
    ),
    "field-twice.jsonl": ("JSON lines, one with a field twice", text(LINES + '{"text": "a", "text": "b"}\n')),
    "encoded-twice.jsonl": (
        "JSON lines that are strings of JSON",
        text(json.dumps(LINES.split("\n")[0]) + "\n"),
    ),
    "joined.jsonl": ("JSON lines with a byte order mark in their middle", text(LINES + "\ufeff" + LINES)),
    "old-mac.jsonl": ("JSON lines that end with CR alone", text('{"text": "a"}\r{"text": "c"}\r')),
    "python.jsonl": ("Python's notation, not JSON", text("{'text': 'a'}\n{'text': 'b'}\n")),
    "invalid.jsonl": ("JSON lines with an invalid byte", raw(b'{"text": "a"}\n{"text": "caf\xe9"}\n')),
    "invalid.json": ("an array with an invalid byte", raw(b'[{"text": "a"},\n{"text": "caf\xe9"}]')),
    "utf-16.jsonl": ("JSON lines in UTF-16", text(LINES, "utf-16")),
    "utf-16-bare.jsonl": ("UTF-16 without a byte order mark", text(LINES * 9, "utf-16-le")),
    "half-character.jsonl": (
        "UTF-16 with half of a character",
        raw(LINES.encode("utf-16") + '{"text": "\ud800"}'.encode("utf-16-le", "surrogatepass")),
    ),
    "comma.csv": ("CSV", text(CSV)),
    "semicolon.csv": ("CSV with semicolons, a byte order mark", text(CSV.replace(",", ";"), "utf-8-sig")),
    "tab.tsv": ("TSV", text("prompt\tcompletion\na\tb\n")),
    "excel.tsv": (
        "TSV in UTF-16, of a spreadsheet",
        text("prompt\tcompletion\r\na\té\r\n", "utf-16"),
    ),
    "columns.csv": ("CSV, a row with a field too many", text("text,source\na,b\nc,d,e\nf,g\n")),
    "short.csv": ("CSV, a row with a field too few", text("text,source\na\nb,c\n")),
    "capitals.csv": ("CSV with names in capitals, after a blank line", text("\nQuestion,Answer\na,b\n")),
    "excel.csv": ("CSV whose first line names the delimiter", text("sep=;\nprompt;completion\na,b;c\n")),
    "commas.csv": ("CSV with semicolons, and commas in a name", text("text;a, b, or c\na;b\nc;d\n")),
    "nameless.csv": ("CSV with an index that has no name", text(",text\n0,a\n1,b\n")),
    "header-of-lines.csv": (
        "CSV with a line break in a name of its header",
        text('text,"two\nlines"\na,1\nb,2\n'),
    ),
    "header-unclosed.csv": ("CSV with a quote in its header that is never closed", text('text,"a\nb,1\n')),
    "no-header.csv": ("CSV without a header", text("Why?,So.\nWhen?,Now.\n")),
    "old-mac.csv": ("CSV with lines that end with CR alone", text("text\ra\rb\r")),
    "unclosed.csv": ("CSV with a quote that is never closed", text('text\n"a\nb\n')),
    "quotes.csv": ("CSV with a quote inside a field", text('text\n"a" b\nc\n')),
    "twice.csv": ("CSV that names a field twice", text("text,text\na,b\n")),
    "latin-1.csv": ("CSV that is not UTF-8", raw(b"text\ncaf\xe9\nb\n")),
    "lines.jsonl.gz": ("gzip", raw(gzip.compress(LINES.encode()))),
    "lines.jsonl.bz2": ("bzip2", raw(bz2.compress(LINES.encode()))),
    "lines.jsonl.xz": ("xz", raw(lzma.compress(LINES.encode()))),
    "lines.jsonl.zst": ("Zstandard", zstd(LINES.encode())),
    "members.jsonl.gz": ("gzip of two members", raw(gzip.compress(LINES.encode()) * 2)),
    "garbage.jsonl.gz": ("gzip with other bytes at its end", raw(gzip.compress(LINES.encode()) + b"more")),
    "frames.jsonl.zst": ("Zstandard of two frames", zstd(LINES.encode(), 2)),
    "comma.csv.gz": ("gzip", raw(gzip.compress(CSV.encode()))),
    "array.json.zst": ("Zstandard", zstd(json.dumps(ROWS).encode())),
    "book.txt.gz": ("gzip", raw(gzip.compress(BOOK.encode()))),
    "unpacked.jsonl.gz": ("not compressed, in spite of its name", text(LINES)),
    "packed.jsonl": ("gzip, in spite of its name", raw(gzip.compress(LINES.encode()))),
    "cut.jsonl.gz": ("gzip whose end is missing", raw(gzip.compress(LINES.encode())[:-9])),
    "rows.parquet": ("Parquet with nested columns", parquet(CHATS)),
    "columns-twice.parquet": ("Parquet with two columns of a name", parquet_twice),
    "indexed.arrow": ("an Arrow file with an index", arrow(ROWS, indexed=True)),
    "cut.parquet": ("not Parquet, in spite of its name", raw(b"PAR1 and no more")),
    "rows.parquet.gz": ("compressed Parquet", raw(b"")),
    "book.txt": ("a text of nine paragraphs, longer than a sample", text(BOOK)),
    "short.md": ("a short text", text("# Title\n\nText.\n")),
    "utf-16.txt": ("a text in UTF-16", text("Grüße\n", "utf-16")),
    "latin-1.txt": ("a text that is not UTF-8", raw(b"one\ntwo\ncaf\xe9\n")),
    "rows.txt": ("JSON lines, called `.txt`", text(LINES)),
    "nul.txt": ("a text with a NUL byte", raw(b"word " * 99 + b"\nnul \0\n")),
    "binary.txt": ("bytes", raw(bytes(range(256)) + bytes(256))),
    "letter.txt": ("an office document", raw(b"PK\x03\x04" + bytes(64))),
    "empty.txt": ("nothing", raw(b"")),
    "pointer.jsonl": ("a pointer of Git LFS", text(LFS)),
    "rows.xlsx": ("a spreadsheet", raw(b"PK\x03\x04")),
    "rows.zip": ("an archive", raw(b"PK\x03\x04")),
    "notes": (
        "a folder of notes",
        folder({"README.md": "read me", "a/test.md": "b", ".git/x.md": "x", "LICENSE": "MIT"}),
    ),
    "splits": (
        "a folder with splits",
        folder({"train.jsonl": LINES, "test.jsonl": LINES, "dev.csv": CSV, "extra.json": "{}"}),
    ),
    "shards": (
        "a cloned Hub dataset",
        folder(
            {
                "README.md": "---\nlicense: mit\n---\n# Card",
                "LICENSE.txt": "MIT",
                ".gitattributes": "*.jsonl filter=lfs",
                "dataset_infos.json": "{}",
                "data/train-00000-of-00002.jsonl": LINES,
                "data/train-00001-of-00002.jsonl": LINES,
                "data/test-00000-of-00001.jsonl": LINES,
            }
        ),
    ),
    "configs": (
        "a cloned Hub dataset with configurations",
        folder({"README.md": CARD, "en/train-0.jsonl": LINES, "en/test.jsonl": LINES, "fr/a.jsonl": LINES}),
    ),
    "no-train": (
        "a folder with rows of no split, and a split that is no `train`",
        folder({"rows.jsonl": LINES, "rows-test.jsonl": LINES, "README.md": "# Card"}),
    ),
    "only-test": ("a folder with another split only", folder({"test.jsonl": LINES})),
    "saved": ("what `datasets` saves with `save_to_disk`", saved_to_disk),
    "linked": ("a folder with links to folders", linked),
    "link-to-nothing": ("a folder with a link to a file that does not exist", link_to_nothing),
    "link-to-itself": ("a folder with a link that leads to itself", link_to_itself),
    "script": (
        "a Hub dataset with a script and an archive",
        folder({"README.md": "---\nlicense: mit\n---\n# Card", "load.py": "x", "data.zip": b"PK"}),
    ),
    "no-files": (
        "a cloned Hub dataset whose card names files that are absent",
        folder(
            {"README.md": "---\nconfigs:\n- config_name: en\n  data_files: en/*\n---\n", "a.jsonl": LINES}
        ),
    ),
    "pictures": ("a folder without data", folder({"a.png": b"\x89PNG"})),
}
"""What to write, by the name of the file or folder, after what it is."""


def outcome(path: Path, where: str) -> str:
    """What reading a file or folder gives, in words; `where` is removed from them.

    Rows are counted; bad ones, and what of a folder is not read, follow.
    """
    try:
        opened = open_source(SourceSpec(source=str(path)))
        rows = list(opened.rows(Cutting(size=2048)))
    except DatasetError as error:
        return f"refused: {error.problem.replace(where, '')}"
    bad = [row for row in rows if isinstance(row, BadRow)]
    others = [row.split for row in rows if isinstance(row, OtherSplitRow)]
    good = len(rows) - len(bad) - len(others)
    parts = [f"{good} row{'' if good == 1 else 's'}"]
    parts += [f"bad: {row.where}: {row.problem}" for row in bad]
    parts += [f"split `{split}`: {others.count(split)} rows left out" for split in dict.fromkeys(others)]
    return "; ".join([*parts, *source_files(opened.report)[1:]]).replace(where, "")
