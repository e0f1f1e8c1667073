"""Memory that this process may still take: the machine's, or what its control groups leave of it.

A container's limit is a file of its control group, which psutil does not read. Version 1 and 2 are read, with
every group above the process's own: the tightest one counts. Swap is never counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

_ROOT = Path("/")
_UNLIMITED = 2**60
"""Version 1 writes about 2^63 for no limit."""


@dataclass(frozen=True)
class _Files:
    """File names of one version of control groups."""

    limits: tuple[str, ...]
    used: str
    cache: tuple[str, ...]
    """Lines of memory.stat: pages of files, which the kernel frees where memory is short."""


_V1 = _Files(
    ("memory.limit_in_bytes",), "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
)
_V2 = _Files(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))


def available_memory(root: Path = _ROOT) -> int:
    """Bytes that this process can take without swapping. root: the folder that has /proc and the mounts."""
    left = (_left(folder, files) for folder, files in _groups(root))
    return max(0, min([int(psutil.virtual_memory().available), *(b for b in left if b is not None)]))


def _groups(root: Path) -> Iterator[tuple[Path, _Files]]:
    """The memory control groups of this process, from its own up to the mount; none but on Linux."""
    paths = _group_paths(_lines(root / "proc/self/cgroup"))
    for line in _lines(root / "proc/self/mountinfo"):
        found = _mount(line)
        if found is None or found.files not in paths:
            continue
        top = root / found.point.lstrip("/")
        folder = top / _below(paths[found.files], found.root)
        yield from ((group, found.files) for group in (folder, *folder.parents) if _is_in(group, top))


@dataclass(frozen=True)
class _Mount:
    root: str
    """The control group that is mounted."""
    point: str
    files: _Files


def _mount(line: str) -> _Mount | None:
    """A mount of memory control groups (proc(5), mountinfo); None for another mount."""
    before, _, after = line.partition(" - ")
    fields, kind = before.split(), after.split()
    if len(fields) < 5 or len(kind) < 3:
        return None
    point = fields[4].replace("\\040", " ")
    if kind[0] == "cgroup2":
        return _Mount(fields[3], point, _V2)
    if kind[0] == "cgroup" and "memory" in kind[2].split(","):
        return _Mount(fields[3], point, _V1)
    return None


def _group_paths(lines: list[str]) -> dict[_Files, str]:
    """The process's group in each version (cgroups(7), /proc/PID/cgroup)."""
    paths = {}
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths[_V2] = path
        elif "memory" in controllers.split(","):
            paths[_V1] = path
    return paths


def _below(path: str, mounted: str) -> str:
    """`path` relative to the mounted group; the mount itself where a namespace hides where the group is."""
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(mounted):
        return "."
    return str(group.relative_to(mounted))


def _is_in(group: Path, top: Path) -> bool:
    return group == top or top in group.parents


def _left(group: Path, files: _Files) -> int | None:
    """What a group leaves free; None where it has no limit."""
    limits = [number for name in files.limits if (number := _number(group / name)) is not None]
    limits = [limit for limit in limits if limit < _UNLIMITED]
    used = _number(group / files.used)
    if not limits or used is None:
        return None
    return min(limits) - max(0, used - _cached(group, files))


def _cached(group: Path, files: _Files) -> int:
    stat = (line.split() for line in _lines(group / "memory.stat"))
    return sum(int(fields[1]) for fields in stat if len(fields) == 2 and fields[0] in files.cache)


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, and where the file is missing or unreadable."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
