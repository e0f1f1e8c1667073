"""Free memory under the limits of control groups: a folder stands for the file system of a container."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from barnraise.runtime.memory import available_memory

MB = 2**20
V1_UNLIMITED = 9223372036854771712
V2_MOUNT = "31 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1_MOUNT = "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


class Machine:
    """A machine with 8,000 MB free, and the files of its control groups."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        memory = psutil.virtual_memory()._replace(available=8000 * MB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    def process(self, cgroup: str, mounts: str) -> None:
        self._write("proc/self/cgroup", cgroup + "\n")
        self._write("proc/self/mountinfo", mounts + "\n")

    def v2(self, group: str, limit: str, used: int, stat: str = "", high: str = "max") -> None:
        folder = f"sys/fs/cgroup/{group}".rstrip("/")
        self._write(f"{folder}/memory.max", f"{limit}\n")
        self._write(f"{folder}/memory.high", f"{high}\n")
        self._write(f"{folder}/memory.current", f"{used}\n")
        self._write(f"{folder}/memory.stat", stat)
        self._write(f"{folder}/memory.swap.max", f"{9000 * MB}\n")

    def v1(self, group: str, limit: int, used: int, stat: str = "") -> None:
        folder = f"sys/fs/cgroup/memory/{group}".rstrip("/")
        self._write(f"{folder}/memory.limit_in_bytes", f"{limit}\n")
        self._write(f"{folder}/memory.usage_in_bytes", f"{used}\n")
        self._write(f"{folder}/memory.stat", stat)
        self._write(f"{folder}/memory.memsw.limit_in_bytes", f"{9000 * MB}\n")

    @property
    def free(self) -> int:
        return available_memory(self.root) // MB

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_without_control_groups_it_is_the_machines(machine: Machine) -> None:
    assert machine.free == 8000


@pytest.mark.parametrize(("limit", "free"), [("max", 8000), (str(3000 * MB), 2500), (str(400 * MB), 0)])
def test_version_2(machine: Machine, limit: str, free: int) -> None:
    machine.process("0::/", V2_MOUNT)
    machine.v2("", limit, used=500 * MB)
    assert machine.free == free


def test_a_limit_above_the_machines_memory_changes_nothing(machine: Machine) -> None:
    machine.process("0::/", V2_MOUNT)
    machine.v2("", str(90_000 * MB), used=0)
    assert machine.free == 8000


def test_pages_of_files_count_as_free(machine: Machine) -> None:
    machine.process("0::/", V2_MOUNT)
    stat = f"anon 7\ninactive_file {300 * MB}\nactive_file {100 * MB}\nfile {900 * MB}\n"
    machine.v2("", str(1000 * MB), used=900 * MB, stat=stat)
    assert machine.free == 500


def test_the_soft_limit_counts(machine: Machine) -> None:
    machine.process("0::/", V2_MOUNT)
    machine.v2("", str(3000 * MB), used=0, high=str(1000 * MB))
    assert machine.free == 1000


def test_the_tightest_of_nested_groups_counts(machine: Machine) -> None:
    machine.process("0::/user.slice/job", V2_MOUNT)
    machine.v2("user.slice/job", "max", used=100 * MB)
    machine.v2("user.slice", str(2000 * MB), used=1500 * MB)
    machine.v2("other.slice", str(1 * MB), used=0)
    assert machine.free == 500


@pytest.mark.parametrize(("limit", "free"), [(V1_UNLIMITED, 8000), (3000 * MB, 2500)])
def test_version_1(machine: Machine, limit: int, free: int) -> None:
    machine.process("5:cpu:/x\n4:memory:/job\n0::/", V1_MOUNT.format(root="/"))
    machine.v1("job", limit, used=900 * MB, stat=f"inactive_file 1\ntotal_inactive_file {400 * MB}\n")
    machine.v1("", V1_UNLIMITED, used=7000 * MB)
    assert machine.free == free


def test_a_container_without_a_namespace_sees_its_group_at_the_mount(machine: Machine) -> None:
    machine.process("4:memory:/docker/abc", V1_MOUNT.format(root="/docker/abc"))
    machine.v1("", 1000 * MB, used=200 * MB)
    assert machine.free == 800


def test_a_group_outside_the_namespace_is_looked_up_at_the_mount(machine: Machine) -> None:
    machine.process("0::/../../elsewhere", V2_MOUNT)
    machine.v2("", str(1000 * MB), used=0)
    assert machine.free == 1000


@pytest.mark.parametrize("limit", ["", "nonsense", "-1"])
def test_an_unreadable_limit_is_none(machine: Machine, limit: str) -> None:
    machine.process("garbage\n0::/", f"short\n{V2_MOUNT}")
    machine.v2("", limit, used=0)
    assert machine.free == 8000
