"""What `coordinator serve` and `coordinator follow` serve, and that both end together."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest

from barnraise.contract.archive import INDEX
from barnraise.core.errors import Unreachable
from coordinator.grpc_service import ask_status
from coordinator.servers import serving
from tests.coordinator.test_follow import SETTINGS
from tests.support import parts
from tests.support.coordinators import opened_store, session_of


def test_a_run_and_its_archive_are_served_until_the_end(tmp_path: Path) -> None:
    async def play() -> None:
        with opened_store(tmp_path) as store, SETTINGS.reserved() as ports:
            bound = ports.bound
            public = SETTINGS.announced(bound)
            ports.release()
            async with serving(session_of(store), SETTINGS, bound):
                status = await ask_status(public.api[0])
                index = await asyncio.to_thread(read, f"{public.urls[0]}/{INDEX}")
            assert (status.run, json.loads(index)["run"]) == (parts.RUN, parts.RUN)
            with pytest.raises(Unreachable):
                await ask_status(public.api[0])
            with pytest.raises(OSError, match="refused"):
                await asyncio.to_thread(read, f"{public.urls[0]}/{INDEX}")

    asyncio.run(play())


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())
