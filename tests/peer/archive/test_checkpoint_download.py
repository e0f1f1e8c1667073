"""A checkpoint from several sources at once, in virtual time: fast, slow, silent and lying ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from barnraise.contract.manifest import FileEntry
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import blob_hash
from peer.archive.checkpoint_download import CheckpointDownload
from peer.archive.checkpoint_sources import Candidate, CheckpointSource
from peer.archive.partial_file import PartialFile
from tests.support import virtual_time
from tests.support.scripted import Scripted, Told

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


def fetch(folder: Path, *sources: Scripted) -> tuple[Told, float]:
    """What was told, and the seconds that it took."""
    told = Told()
    took = [0.0]

    async def work() -> None:
        clock = asyncio.get_running_loop().time
        parts = [PartialFile(folder, entry) for entry in ENTRIES]
        candidates = [Candidate.first(CheckpointSource(each, "")) for each in sources]
        try:
            await CheckpointDownload(parts, told, clock).run(candidates)
        finally:
            took[0] = clock()

    folder.mkdir(exist_ok=True)
    virtual_time.run(work())
    return told, took[0]


def whole(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def left(told: Told, name: str) -> list[str]:
    return [line for line in told.said if line.startswith(f"left {name}: ")]


def test_two_share_the_work_by_their_speed(tmp_path: Path) -> None:
    fast, slow = source("fast", speed=3e6), source("slow", speed=1e6)
    told, took = fetch(tmp_path, fast, slow)
    assert whole(tmp_path)
    assert sorted(told.whole) == sorted(FILES)
    assert told.counts == {name: len(data) for name, data in FILES.items()}
    assert 2 < fast.given / slow.given < 4
    assert took < 1.2 * sum(map(len, FILES.values())) / 4e6
    assert told.said == []


def test_a_lone_source_is_asked_once_for_each_file(tmp_path: Path) -> None:
    alone = source("alone")
    fetch(tmp_path, alone)
    assert sorted(alone.asked) == sorted((name, 0, len(data)) for name, data in FILES.items() if data)


def test_a_silent_source_is_not_waited_for(tmp_path: Path) -> None:
    told, took = fetch(tmp_path, source("silent", silent_after=2 * MB), source("good"))
    assert whole(tmp_path)
    assert took < 20
    assert any(line.startswith("silent sends nothing") for line in told.said)


def test_one_that_was_silent_once_is_asked_again(tmp_path: Path) -> None:
    sleeper = source("sleeper", silent_after=MB, recovers=True)
    fetch(tmp_path, sleeper, source("good", speed=1e5))
    assert whole(tmp_path)
    assert sleeper.given > 6 * MB


def test_one_that_breaks_for_good_is_left_with_its_reason(tmp_path: Path) -> None:
    told, _ = fetch(tmp_path, source("broken", breaks_after=2 * MB), source("good"))
    assert whole(tmp_path)
    assert left(told, "broken") == ["left broken: broken is gone"]


def test_one_without_a_file_is_left_and_the_others_go_on(tmp_path: Path) -> None:
    lacking = Scripted("lacking", {name: data for name, data in FILES.items() if name != "tokenizer.json"})
    told, _ = fetch(tmp_path, source("good", speed=1e5), lacking)
    assert whole(tmp_path)
    assert left(told, "lacking") == ["left lacking: there is no tokenizer.json at lacking"]


def test_one_far_slower_stands_by_until_it_is_needed(tmp_path: Path) -> None:
    fast = source("fast", speed=1e8, breaks_after=10 * MB)
    told, _ = fetch(tmp_path, fast, source("slow", speed=1e5))
    assert whole(tmp_path)
    assert left(told, "fast")
    assert fast.given >= 10 * MB


def test_one_that_knows_no_ranges_waits_behind_one_that_does(tmp_path: Path) -> None:
    plain = source("plain", ranges=False)
    told, _ = fetch(tmp_path, source("good"), plain)
    assert whole(tmp_path)
    assert plain.asked == []
    assert told.said == ["plain is left aside: it cannot begin in the middle of a file"]


def test_when_nobody_is_left_what_came_is_kept_for_the_next_time(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is gone"):
        fetch(tmp_path, source("a", breaks_after=5 * MB), source("b", breaks_after=5 * MB))
    assert not (tmp_path / LARGE).exists(), "half a file has its final name"
    again = source("again")
    told, _ = fetch(tmp_path, again)
    assert whole(tmp_path)
    assert again.given < 4 * MB
    assert told.counts[LARGE] == len(FILES[LARGE])


def test_a_lone_liar_is_named_with_the_file_and_the_file_is_gone(tmp_path: Path) -> None:
    liar = source("liar", false={LARGE: 5})
    with pytest.raises(HashMismatch, match=f"{LARGE} of liar hashes to"):
        fetch(tmp_path, liar)
    assert not any(LARGE in path.name for path in tmp_path.iterdir())
    assert len([path for path, _, _ in liar.asked if path == LARGE]) == 1


@pytest.mark.parametrize(
    ("order", "place", "found"),
    [(1, 0, True), (1, 7 * MB, False), (-1, 0, False), (-1, 7 * MB, True)],
)
def test_a_liar_beside_an_honest_one_is_found(tmp_path: Path, order: int, place: int, found: bool) -> None:
    """The first source begins at the start, the second in the middle: what was not asked for does no harm."""
    sources = [source("liar", false={LARGE: place}), source("honest")][::order]
    told, _ = fetch(tmp_path, *sources)
    assert whole(tmp_path)
    assert left(told, "honest") == []
    assert bool(left(told, "liar")) == found
    assert told.counts[LARGE] == len(FILES[LARGE])


def test_the_liar_is_found_among_four(tmp_path: Path) -> None:
    sources = [source(name, false={LARGE: 0}) if name == "a" else source(name) for name in "abcd"]
    told, _ = fetch(tmp_path, *sources)
    assert whole(tmp_path)
    assert [line for line in told.said if line.startswith("left ")] == left(told, "a")
    assert left(told, "a")


def test_when_all_lie_the_download_fails_and_leaves_no_file(tmp_path: Path) -> None:
    liars = [source(name, false={LARGE: place}) for name, place in (("a", 0), ("b", 1), ("c", 10 * MB))]
    with pytest.raises(HashMismatch, match=LARGE) as refused:
        fetch(tmp_path, *liars)
    assert refused.value.exit_code == 5
    assert not any(LARGE in path.name for path in tmp_path.iterdir())


def test_false_bytes_of_an_earlier_run_cost_only_a_fetch(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("liar", false={LARGE: 5}, breaks_after=6 * MB))
    told, _ = fetch(tmp_path, source("good"))
    assert whole(tmp_path)
    assert left(told, "good") == []
    assert any("one source at a time" in line for line in told.said)


def test_a_source_that_dies_while_it_answers_for_a_file_is_followed_by_another(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("liar", false={LARGE: 5}, breaks_after=6 * MB))
    mortal = source("mortal", breaks_after=10 * MB)
    told, _ = fetch(tmp_path, mortal, source("good", ranges=False))
    assert (LARGE, 0, len(FILES[LARGE])) in mortal.asked
    assert left(told, "mortal")
    assert whole(tmp_path)
    assert told.counts[LARGE] == len(FILES[LARGE])


def test_a_file_is_looked_at_once_though_two_gave_its_last_bytes(tmp_path: Path) -> None:
    part = PartialFile(tmp_path, ENTRIES[0])
    part.write(0, FILES[LARGE], 0)
    told = Told()

    async def twice() -> None:
        fetching = CheckpointDownload([part], told, asyncio.get_running_loop().time)
        fetching._open.add(0)
        fetching._unchecked.add(0)
        await asyncio.gather(fetching._check(0), fetching._check(0))

    asyncio.run(twice())
    assert told.whole == [LARGE]


def test_parts_of_another_file_of_that_name_are_not_taken(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("a", breaks_after=6 * MB))
    note = tmp_path / f".{LARGE}.part.json"
    note.write_text(note.read_text(encoding="utf-8").replace(ENTRIES[0].hash, "ab" * 32), encoding="utf-8")
    good = source("good")
    fetch(tmp_path, good)
    assert whole(tmp_path)
    assert good.given >= len(FILES[LARGE])


@pytest.mark.parametrize("note", ["", "{", '{"hash": "", "have": [[0, 99999999999]]}', "[" * 100_000])
def test_a_damaged_note_costs_only_a_fetch(tmp_path: Path, note: str) -> None:
    with pytest.raises(Unreachable):
        fetch(tmp_path, source("a", breaks_after=6 * MB))
    (tmp_path / f".{LARGE}.part.json").write_text(note, encoding="utf-8")
    fetch(tmp_path, source("good"))
    assert whole(tmp_path)


def test_a_note_that_claims_too_much_is_found_out(tmp_path: Path) -> None:
    entry = ENTRIES[0]
    (tmp_path / f".{LARGE}.part").write_bytes(FILES[LARGE][:1000])
    claim = f'{{"hash": "{entry.hash}", "have": [[0, {2**50}]]}}'
    (tmp_path / f".{LARGE}.part.json").write_text(claim, encoding="utf-8")
    told, _ = fetch(tmp_path, source("good"))
    assert whole(tmp_path)
    assert told.said == []
