"""A holder sends false bytes and breaks the stream: the next holder, which resumes it, is not at fault."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.transfers import DATA, NAME, Net, Serve, key, play

LIMIT = 2 * len(DATA)


def breaking_off(false: bytes, size: int) -> Serve:
    """Serves the beginning of a blob that it says is of `size` bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            offset = int.from_bytes((await reader.readexactly(40))[32:], "little")
            writer.write(size.to_bytes(8, "little") + false[offset:])

    return serve


@pytest.mark.parametrize(
    ("sent", "size"),
    [(1, len(DATA)), (len(DATA) - 1, len(DATA)), (len(DATA), LIMIT), (len(DATA) + 1, LIMIT)],
)
@pytest.mark.parametrize("liars", [1, 3])
def test_the_only_honest_holder_is_enough(tmp_path: Path, sent: int, size: int, liars: int) -> None:
    """Its bytes were appended to the false ones, and refused with them, at each try."""

    async def scene(net: Net) -> None:
        names = [f"liar {number}" for number in range(liars)]
        for name in names:
            net.scripted[key(name)] = breaking_off(bytes(sent), size)
        asker, good = net.node("asker"), net.node("good")
        good.holds(DATA)
        path = await asker.transfer.fetch(NAME, LIMIT, [*map(key, names), key("good")])
        assert path.read_bytes() == DATA

    play(tmp_path, scene)
