"""`coordinator serve` serves its checkpoints to Hub clients, at the address that it prints."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, snapshot_download

from barnraise.contract.manifest import MANIFEST
from tests.programs.test_processes import prepare
from tests.support.programs import DEADLINE, stage


def shown(url: str) -> None:
    """Repeat a request until the first checkpoint exists; before that the gateway answers 503."""
    deadline = time.monotonic() + DEADLINE
    while (found := httpx2.get(f"{url}/api/models/barnraise/tiny")).status_code != 200:
        assert time.monotonic() < deadline, found.text


@pytest.mark.slow
def test_a_run_is_served_as_a_repository(tmp_path: Path) -> None:
    prepare(tmp_path)
    with stage(tmp_path) as act:
        coordinator, _ = act.serve()
        url = coordinator.wait_for(r"are at (http://\S+)")[1]
        shown(url)
        assert "barnraise/tiny" in httpx2.get(url).text
        refs = HfApi(endpoint=url, token=False).list_repo_refs("barnraise/tiny")
        assert {ref.name for ref in refs.tags} >= {"round-0", "latest"}
        folder = Path(
            snapshot_download("barnraise/tiny", endpoint=url, token=False, local_dir=tmp_path / "got")
        )
        original = tmp_path / "coordinator/archive/checkpoints/round-000000"
        for path in original.iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()
        assert (folder / MANIFEST).is_file()
        coordinator.interrupt()
        assert "Traceback" not in coordinator.output
