"""A checkpoint from several sources at once, in virtual time: fast, slow, silent and false ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.manifest import FileEntry
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import blob_hash
from peer.archive.checkpoint_download import CheckpointDownload
from peer.archive.events import (
    FileMismatched,
    NoRanges,
    RequestFailed,
    SourceDropped,
    SourceRetried,
    SourceSilent,
    SourceStandsBy,
)
from peer.archive.partial_file import PartialFile
from peer.archive.sources import Candidate, CheckpointSource
from tests.support import virtual_time
from tests.support.scripted import RecordingListener, Scripted

MB = 2**20
FILES = {
    "model.safetensors": np.random.default_rng(1).bytes(12 * MB),
    "tokenizer.json": np.random.default_rng(2).bytes(300_000),
    "README.md": b"",
}
LARGE = "model.safetensors"
ENTRIES = [FileEntry(name=name, hash=blob_hash(data), size=len(data)) for name, data in FILES.items()]


def source(name: str, **other: object) -> Scripted:
    return Scripted(name, FILES, **other)  # type: ignore[arg-type]


def fetch(folder: Path, *sources: Scripted) -> tuple[RecordingListener, float]:
    """The reports of a download, and the seconds that it took."""
    listener = RecordingListener()
    took = [0.0]

    async def work() -> None:
        clock = asyncio.get_running_loop().time
        parts = [PartialFile(folder, entry) for entry in ENTRIES]
        candidates = [Candidate.first(CheckpointSource(each, "")) for each in sources]
        try:
            await CheckpointDownload(parts, listener, clock).run(candidates)
        finally:
            took[0] = clock()

    folder.mkdir(exist_ok=True)
    virtual_time.run(work())
    return listener, took[0]


def whole(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def dropped(listener: RecordingListener, name: str = "") -> list[SourceDropped]:
    """The reports that a source was dropped. name: only of this one."""
    found = [event for event in listener.events if isinstance(event, SourceDropped)]
    return [event for event in found if name in ("", event.source)]


def test_two_sources_share_the_work_by_their_speed(tmp_path: Path) -> None:
    fast, slow = source("fast", speed=3e6), source("slow", speed=1e6)
    listener, took = fetch(tmp_path, fast, slow)
    assert whole(tmp_path)
    assert sorted(listener.whole) == sorted(FILES)
    assert listener.counts == {name: len(data) for name, data in FILES.items()}
    assert 2 < fast.given / slow.given < 4
    assert took < 1.2 * sum(map(len, FILES.values())) / 4e6
    assert listener.events == []


def test_a_lone_source_is_asked_once_for_each_file(tmp_path: Path) -> None:
    alone = source("alone")
    fetch(tmp_path, alone)
    assert sorted(alone.asked) == sorted((name, 0, len(data)) for name, data in FILES.items() if data)


def test_a_silent_source_is_not_waited_for(tmp_path: Path) -> None:
    listener, took = fetch(tmp_path, source("silent", silent_after=2 * MB), source("good"))
    assert whole(tmp_path)
    assert took < 20
    assert SourceSilent("silent") in listener.events


def test_a_source_that_was_silent_once_is_asked_again(tmp_path: Path) -> None:
    stalling = source("stalling", silent_after=MB, recovers=True)
    fetch(tmp_path, stalling, source("good", speed=1e5))
    assert whole(tmp_path)
    assert stalling.given > 6 * MB


def test_a_source_that_keeps_failing_is_dropped_with_its_problem(tmp_path: Path) -> None:
    listener, _ = fetch(tmp_path, source("broken", breaks_after=2 * MB), source("good"))
    assert whole(tmp_path)
    assert dropped(listener, "broken") == [SourceDropped("broken", "broken is offline")]
    assert SourceRetried("broken", RequestFailed("broken is offline")) in listener.events


def test_a_source_without_a_file_is_dropped_and_the_others_continue(tmp_path: Path) -> None:
    lacking = Scripted("lacking", {name: data for name, data in FILES.items() if name != "tokenizer.json"})
    listener, _ = fetch(tmp_path, source("good", speed=1e5), lacking)
    assert whole(tmp_path)
    problem = "there is no tokenizer.json at lacking"
    assert dropped(listener, "lacking") == [SourceDropped("lacking", problem)]


def test_a_far_slower_source_stands_by_until_it_is_needed(tmp_path: Path) -> None:
    fast = source("fast", speed=1e8, breaks_after=10 * MB)
    listener, _ = fetch(tmp_path, fast, source("slow", speed=1e5))
    assert whole(tmp_path)
    assert dropped(listener, "fast")
    assert fast.given >= 10 * MB


def test_a_source_without_ranges_stands_by(tmp_path: Path) -> None:
    plain = source("plain", ranges=False)
    listener, _ = fetch(tmp_path, source("good"), plain)
    assert whole(tmp_path)
    assert plain.asked == []
    assert listener.events == [SourceStandsBy("plain", NoRanges())]


def test_a_failed_download_keeps_its_bytes_for_the_next(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is offline"):
        fetch(tmp_path, source("a", breaks_after=5 * MB), source("b", breaks_after=5 * MB))
    assert not (tmp_path / LARGE).exists(), "half a file has its final name"
    again = source("again")
    listener, _ = fetch(tmp_path, again)
    assert whole(tmp_path)
    assert again.given < 4 * MB
    assert listener.counts[LARGE] == len(FILES[LARGE])


def test_a_lone_false_source_is_named_and_its_file_removed(tmp_path: Path) -> None:
    corrupt = source("corrupt", false={LARGE: 5})
    with pytest.raises(HashMismatch, match=f"{LARGE} of corrupt hashes to"):
        fetch(tmp_path, corrupt)
    assert not any(LARGE in path.name for path in tmp_path.iterdir())
    assert len([path for path, _, _ in corrupt.asked if path == LARGE]) == 1


@pytest.mark.parametrize(
    ("order", "place", "found"),
    [(1, 0, True), (1, 7 * MB, False), (-1, 0, False), (-1, 7 * MB, True)],
)
def test_a_false_source_is_detected_next_to_an_honest_one(
    tmp_path: Path, order: int, place: int, found: bool
) -> None:
    """The first source begins at the start, the second in the middle. Bytes that are not used do no harm."""
    sources = [source("corrupt", false={LARGE: place}), source("honest")][::order]
    listener, _ = fetch(tmp_path, *sources)
    assert whole(tmp_path)
    assert dropped(listener, "honest") == []
    assert bool(dropped(listener, "corrupt")) == found
    assert listener.counts[LARGE] == len(FILES[LARGE])


def test_a_false_source_is_detected_among_four(tmp_path: Path) -> None:
    sources = [source(name, false={LARGE: 0}) if name == "a" else source(name) for name in "abcd"]
    listener, _ = fetch(tmp_path, *sources)
    assert whole(tmp_path)
    assert [event.source for event in dropped(listener)] == ["a"]


def test_a_download_from_false_sources_fails_and_leaves_no_file(tmp_path: Path) -> None:
    corrupt_sources = [
        source(name, false={LARGE: place}) for name, place in (("a", 0), ("b", 1), ("c", 10 * MB))
    ]
    with pytest.raises(HashMismatch, match=LARGE) as refused:
        fetch(tmp_path, *corrupt_sources)
    assert refused.value.exit_code == 5
    assert not any(LARGE in path.name for path in tmp_path.iterdir())


def test_false_bytes_of_an_earlier_run_cost_only_a_download(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("corrupt", false={LARGE: 5}, breaks_after=6 * MB))
    listener, _ = fetch(tmp_path, source("good"))
    assert whole(tmp_path)
    assert dropped(listener, "good") == []
    assert FileMismatched(LARGE) in listener.events


def test_another_source_continues_an_exclusive_file(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("corrupt", false={LARGE: 5}, breaks_after=6 * MB))
    short_lived = source("short_lived", breaks_after=10 * MB)
    listener, _ = fetch(tmp_path, short_lived, source("good", ranges=False))
    assert (LARGE, 0, len(FILES[LARGE])) in short_lived.asked
    assert dropped(listener, "short_lived")
    assert whole(tmp_path)
    assert listener.counts[LARGE] == len(FILES[LARGE])


def test_a_file_is_checked_once_though_two_sources_completed_it(tmp_path: Path) -> None:
    part = PartialFile(tmp_path, ENTRIES[0])
    part.write(0, FILES[LARGE], 0)
    listener = RecordingListener()

    async def twice() -> None:
        download = CheckpointDownload([part], listener, asyncio.get_running_loop().time)
        download._incomplete.add(0)
        download._unchecked.add(0)
        await asyncio.gather(download._check(0), download._check(0))

    asyncio.run(twice())
    assert listener.whole == [LARGE]


def test_progress_of_another_file_of_that_name_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("a", breaks_after=6 * MB))
    progress = tmp_path / f".{LARGE}.part.json"
    progress.write_text(
        progress.read_text(encoding="utf-8").replace(ENTRIES[0].hash, "ab" * 32), encoding="utf-8"
    )
    good = source("good")
    fetch(tmp_path, good)
    assert whole(tmp_path)
    assert good.given >= len(FILES[LARGE])


@pytest.mark.parametrize("progress", ["", "{", '{"hash": "", "have": [[0, 99999999999]]}', "[" * 100_000])
def test_damaged_progress_costs_only_a_download(tmp_path: Path, progress: str) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("a", breaks_after=6 * MB))
    (tmp_path / f".{LARGE}.part.json").write_text(progress, encoding="utf-8")
    fetch(tmp_path, source("good"))
    assert whole(tmp_path)


def test_progress_beyond_the_file_is_ignored(tmp_path: Path) -> None:
    entry = ENTRIES[0]
    (tmp_path / f".{LARGE}.part").write_bytes(FILES[LARGE][:1000])
    claim = f'{{"hash": "{entry.hash}", "have": [[0, {2**50}]]}}'
    (tmp_path / f".{LARGE}.part.json").write_text(claim, encoding="utf-8")
    listener, _ = fetch(tmp_path, source("good"))
    assert whole(tmp_path)
    assert listener.events == []
