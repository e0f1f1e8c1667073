"""Counts and checks the files that a contribution crosses, from an inner step to a published checkpoint.

    scripts/contribution_path [MARKDOWN]

docs/ARCHITECTURE.md walks them under "The path of a contribution": an ordered list whose items name files
in backticks, each file once. Exit status 1 when the walk is too long or is no path: every file has to exist
and to be short, to import or to be imported by a file before it, and none of the peer may come after one of
the coordinator.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WALK = ROOT / "docs" / "ARCHITECTURE.md"
HEADING = "The path of a contribution"
MOST_FILES = 45
MOST_LINES = 350
SOURCE_ROOTS = ("proto/",)
"""Folders on the import path, in addition to the repository itself."""

_HEADING = re.compile(r"^(#+)\s+(.*?)\s*#*$")
_ITEM = re.compile(r"^\s*\d+[.)]\s")
_FILE = re.compile(r"`([\w./-]+\.py)`")


def files_of(markdown: str) -> list[str]:
    """The files that the ordered list under HEADING names, in order. Raises ValueError without a list."""
    found: list[str] = []
    in_item = False
    for line in _section(markdown):
        if not line.strip():
            in_item = False
        elif _ITEM.match(line):
            in_item = True
        if in_item:
            found += _FILE.findall(line)
    if not found:
        raise ValueError(f'no ordered list of `files.py` under the heading "{HEADING}"')
    return found


def violations(files: Sequence[str], root: Path) -> list[str]:
    """What is wrong with a walk through `files`, paths relative to `root`; empty where nothing is."""
    missing = [name for name in files if not (root / name).is_file()]
    if missing:
        return [f"{name} does not exist" for name in missing]
    return [
        *_count(files),
        *_repeated(files),
        *_long(files, root),
        *_unconnected(files, root),
        *_backwards(files),
    ]


def _count(files: Sequence[str]) -> Iterator[str]:
    if len(files) > MOST_FILES:
        yield f"{len(files)} files, where {MOST_FILES} are allowed"


def _repeated(files: Sequence[str]) -> Iterator[str]:
    for name in sorted(set(files)):
        if (times := files.count(name)) > 1:
            yield f"{name} is named {times} times"


def _long(files: Sequence[str], root: Path) -> Iterator[str]:
    for name in files:
        if (lines := line_count(root / name)) > MOST_LINES:
            yield f"{name} has {lines} lines, where {MOST_LINES} are allowed"


def _unconnected(files: Sequence[str], root: Path) -> Iterator[str]:
    for place, name in enumerate(files[1:], start=1):
        before = files[:place]
        if not any(imports(root, one, name) or imports(root, name, one) for one in before):
            yield f"{name} neither imports a file before it nor is imported by one"


def _backwards(files: Sequence[str]) -> Iterator[str]:
    """The path leads from the volunteer to the coordinator; what both stand on may come anywhere."""
    reached = False
    for name in files:
        reached |= name.startswith("coordinator/")
        if reached and name.startswith("peer/"):
            yield f"{name} comes after the coordinator's files"


def imports(root: Path, importer: str, imported: str) -> bool:
    """Whether the file `importer` names the module of the file `imported` in an import statement."""
    wanted = module_of(imported)
    tree = ast.parse((root / importer).read_text(encoding="utf-8"))
    return any(wanted in _modules(node, importer) for node in ast.walk(tree))


def module_of(name: str) -> str:
    """The dotted name of the module in a file."""
    for source_root in SOURCE_ROOTS:
        name = name.removeprefix(source_root)
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _section(markdown: str) -> Iterator[str]:
    """The lines from HEADING to the next heading of its level or a higher one."""
    level = 0
    for line in markdown.splitlines():
        if heading := _HEADING.match(line):
            if level and len(heading[1]) <= level:
                return
            if heading[2] == HEADING:
                level = len(heading[1])
        elif level:
            yield line


def _modules(node: ast.AST, importer: str) -> Iterator[str]:
    """The modules that an import statement may name: `from a import b` may name `a` and `a.b`."""
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom():
            package = _package(node, importer)
            yield package
            yield from (f"{package}.{alias.name}" for alias in node.names)


def _package(node: ast.ImportFrom, importer: str) -> str:
    """The absolute name of the module after `from`."""
    if not node.level:
        return node.module or ""
    parents = importer.removeprefix("proto/").split("/")[: -node.level]
    return ".".join([*parents, *([node.module] if node.module else [])])


def main() -> int:
    walk = Path(sys.argv[1]) if len(sys.argv) > 1 else WALK
    try:
        files = files_of(walk.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"error: {walk}: {error}\n  → Write the walk there, as --help explains.", file=sys.stderr)
        return 1
    for number, name in enumerate(files, start=1):
        size = f"{line_count(ROOT / name):4} lines" if (ROOT / name).is_file() else "   missing"
        print(f"{number:3}  {size}  {name}")
    found = violations(files, ROOT)
    for violation in found:
        print(f"error: {violation}", file=sys.stderr)
    print(f"{len(files)} files of at most {MOST_FILES}")
    return 1 if found else 0


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        sys.exit(0)
    sys.exit(main())
