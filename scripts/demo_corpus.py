"""Writes a real question-and-answer corpus that needs no download.

    python scripts/demo_corpus.py OUT.jsonl             what Python's own library does (PSF licence)
    python scripts/demo_corpus.py OUT.jsonl --jargon    the Jargon File (public domain), on Debian

The first uses the docstrings of the running Python's standard library, so that the corpus depends on
Python's version alone.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

SHORTEST, LONGEST = 60, 600
"""Characters of an answer."""

# Modules whose import only defines names. Some exist only on some systems or versions.
MODULES = """
    builtins abc argparse array ast asyncio base64 bdb binascii bisect bz2 calendar cmath cmd code
    codecs codeop collections collections.abc colorsys compileall concurrent.futures configparser
    contextlib contextvars copy copyreg csv ctypes dataclasses datetime decimal difflib dis doctest
    email email.charset email.contentmanager email.encoders email.generator email.header
    email.headerregistry email.message email.mime.text email.parser email.policy email.utils enum errno
    fileinput filecmp fnmatch fractions ftplib functools gc getopt getpass gettext glob graphlib gzip
    hashlib heapq hmac html html.entities html.parser http http.client http.cookiejar http.cookies
    http.server imaplib importlib importlib.abc importlib.machinery importlib.metadata
    importlib.resources importlib.util inspect io ipaddress itertools json json.decoder json.encoder
    keyword linecache locale logging logging.config logging.handlers lzma mailbox marshal math mimetypes
    mmap modulefinder multiprocessing multiprocessing.connection multiprocessing.managers
    multiprocessing.pool multiprocessing.shared_memory netrc ntpath numbers operator optparse os os.path
    pathlib pdb pickle pickletools pkgutil platform plistlib poplib posixpath pprint profile pstats
    py_compile pyclbr pydoc queue quopri random re reprlib runpy sched secrets select selectors shelve
    shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat statistics string stringprep
    struct subprocess symtable sys sysconfig tabnanny tarfile tempfile textwrap threading time timeit
    token tokenize tomllib trace traceback tracemalloc types typing unicodedata unittest unittest.case
    unittest.loader unittest.mock unittest.runner unittest.suite urllib.error urllib.parse
    urllib.request urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref.handlers
    wsgiref.headers wsgiref.simple_server wsgiref.util wsgiref.validate xml.dom xml.dom.minidom
    xml.dom.pulldom xml.etree.ElementTree xml.sax xml.sax.handler xml.sax.saxutils xml.sax.xmlreader
    xmlrpc.client xmlrpc.server zipapp zipfile zipimport zlib zoneinfo
"""

_SIGNATURE = re.compile(
    r"^[\w.\[\]]*\s*[\[(].*[\])](\s*->.*)?(\s*--?\s.*)?$|^\w+\.\w+\s*$|^[\w., ]+ = [\w.]+\(.*$"
)
_NOT_PROSE = re.compile(r">>>|^\s*\.\. |^\s*[-=~]{3,}|^\s*:\w+|^\s*[|+]|^\s*@|\bXXX\b", re.MULTILINE)
_BOILERPLATE = re.compile(
    r"^(Return self|Return repr|See help|Initialize self|Create and return a new object|The base class of"
    r"|partial\(|Deprecated|Do not use|Abstract|str\(object|Helper for)",
)


def main() -> int:
    """Write the corpus; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--jargon", action="store_true", help="use the Jargon File, by apt-get download")
    options = parser.parse_args()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated modules are still documented
            pairs = list(jargon_file() if options.jargon else standard_library())
    except (OSError, subprocess.SubprocessError) as error:
        print(f"The Jargon File is not available here: {error}", file=sys.stderr)
        print("  → Run it again without --jargon, for Python's own documentation.", file=sys.stderr)
        return 3
    lines = [json.dumps(_record(question, answer), ensure_ascii=False) for question, answer in pairs]
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    except OSError as error:
        print(f"{options.out} cannot be written: {error}\n  → Name another path.", file=sys.stderr)
        return 2
    print(f"{options.out}: {len(lines)} questions and answers, {sum(map(len, lines)) / 1e6:.1f} MB")
    return 0


def _record(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def standard_library() -> Iterator[tuple[str, str]]:
    """(question, answer) for the documented names of `MODULES`, each answer once, in a fixed order."""
    seen: set[str] = set()
    for name, kind, doc in _documented():
        answer = prose(doc)
        if answer and answer not in seen:
            seen.add(answer)
            yield _question(name, kind), answer


def _question(name: str, kind: str) -> str:
    if kind == "module":
        return f"What is Python's `{name}` module for?"
    if kind == "class":
        return f"What is `{name}` in Python?"
    if kind == "method":
        return f"What does the method `{name}` do in Python?"
    return f"What does `{name}` do in Python?"


def _documented() -> Iterator[tuple[str, str, str]]:
    """(qualified name, kind, docstring) of modules, functions, classes and their methods."""
    for module_name in MODULES.split():
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue  # not on this system
        if module.__doc__:
            yield module_name, "module", module.__doc__
        for name, thing in sorted(vars(module).items()):
            if name.startswith("_") or not _belongs(thing, module):
                continue
            qualified = name if module_name == "builtins" else f"{module_name}.{name}"
            if isinstance(thing, type):
                yield from _of_class(qualified, thing)
            elif callable(thing):
                yield qualified, "function", _own_doc(thing)


def _of_class(qualified: str, thing: type) -> Iterator[tuple[str, str, str]]:
    yield qualified, "class", _own_doc(thing)
    for part, member in sorted(vars(thing).items()):
        method = callable(getattr(thing, part, None)) and not isinstance(member, type)
        if method and not part.startswith("_"):
            yield f"{qualified}.{part}", "method", _own_doc(member)


def _belongs(thing: object, module: ModuleType) -> bool:
    """Whether `thing` was defined in `module` or in its private half (`_io`, `collections.abc` …)."""
    home = getattr(thing, "__module__", None) or module.__name__
    root = module.__name__.partition(".")[0]
    return isinstance(home, str) and home.lstrip("_").partition(".")[0] in (root, "collections")


def _own_doc(thing: object) -> str:
    doc = getattr(thing, "__doc__", None)
    return doc if isinstance(doc, str) else ""


def prose(doc: str) -> str:
    """The first paragraphs of a docstring that are prose, within the limits; else an empty string."""
    answer = ""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(doc)):
        lines = paragraph.strip().splitlines()
        while lines and not answer and _SIGNATURE.match(lines[0]):
            lines = lines[1:]
        text = " ".join(" ".join(lines).split()).replace("``", "`")
        if not text and not answer:
            continue  # nothing but signatures so far
        indented = any(line.startswith((" ", "\t")) for line in lines[1:])
        if indented or _NOT_PROSE.search(paragraph) or not text[:1].isupper():
            break
        if not answer and text[-1].isalnum():
            text = f"{text}."  # a headline
        if text[-1] not in ".!?)" or len(answer) + len(text) + 2 > LONGEST:
            break
        answer = f"{answer}\n\n{text}" if answer else text
    return answer if len(answer) >= SHORTEST and not _BOILERPLATE.match(answer) else ""


def jargon_file() -> Iterator[tuple[str, str]]:
    """(question, answer) from Debian's dict-jargon. Raises OSError or SubprocessError without it."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(f"there is no {tool} on this system")
    with tempfile.TemporaryDirectory() as folder:
        _run(["apt-get", "download", "dict-jargon"], folder)
        package = next(Path(folder).glob("dict-jargon*.deb"))
        _run(["dpkg-deb", "-x", package.name, "."], folder)
        dictd = Path(folder) / "usr/share/dictd"
        index = (dictd / "jargon.index").read_text(encoding="utf-8")
        entries = gzip.decompress((dictd / "jargon.dict.dz").read_bytes())
    yield from _jargon(index, entries)


def _run(command: list[str], folder: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


def _jargon(index: str, entries: bytes) -> Iterator[tuple[str, str]]:
    """dictd: the index gives each headword's offset and length in digits of base 64."""
    seen: set[int] = set()
    for line in index.splitlines():
        headword, offset, size = line.split("\t")[:3]
        begin = _number(offset)
        if headword.startswith("00-database") or begin in seen:
            continue
        seen.add(begin)
        entry = entries[begin : begin + _number(size)].decode("utf-8")
        name, _, rest = entry.partition("\n")
        answer = _definition(rest)
        if answer:
            yield f"What is '{name.strip()}' in hacker slang?", answer


def _number(digits: str) -> int:
    """dictd's base 64: most significant digit first, in the alphabet of base64."""
    padded = base64.b64decode(digits.rjust(4 * -(-len(digits) // 4), "A"))
    return int.from_bytes(padded, "big")


def _definition(body: str) -> str:
    """The paragraphs of an entry, without pronunciation, cross-reference braces and line breaks."""
    answer = ""
    for paragraph in re.split(r"\n\s*\n", body):
        text = re.sub(r"\{\s*([^}]*?)\s*\}", r"\1", " ".join(paragraph.split()))
        text = re.sub(r"“\s+", "“", re.sub(r"^\[[^\]]*\]\s*", "", text))
        if not re.match(r"[A-Z0-9“].*[.!?)”]$", text):
            continue
        if len(answer) + len(text) + 2 > LONGEST:
            break
        answer = f"{answer}\n\n{text}" if answer else text
    return answer if len(answer) >= SHORTEST else ""


if __name__ == "__main__":
    sys.exit(main())
