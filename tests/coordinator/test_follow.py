"""A follower that finds nobody of its run."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.endpoints import Endpoint
from barnraise.contract.invite import Invite
from barnraise.core.ids import RunId
from coordinator.addresses.listening import ListenSettings
from coordinator.follow import Following, follow
from coordinator.timing import TIMING
from tests.support import parts
from tests.support.listening import LISTENING

SETTINGS = ListenSettings(**LISTENING)


def test_it_tries_again_until_it_is_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def tried_twice() -> None:
        heard = asyncio.Event()
        tries: list[str] = []

        class Hearing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                tries.append(record.getMessage())
                if len(tries) >= 2:
                    heard.set()

        def ready(following: Following) -> None:
            raise AssertionError("nobody is there")

        logger, handler = logging.getLogger("coordinator"), Hearing(logging.WARNING)
        logger.addHandler(handler)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens there
            invite = Invite(
                (Endpoint("127.0.0.1", taken.getsockname()[1]),), RunId(parts.RUN), parts.AUTHORITY.public
            )
            timing = replace(TIMING, retry=0.0)
            following = asyncio.create_task(follow(invite, tmp_path / "run", SETTINGS, ready, timing))
            try:
                await asyncio.wait(
                    [following, asyncio.create_task(heard.wait())], return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                following.cancel()
                await asyncio.wait([following])
                logger.removeHandler(handler)
        assert len(tries) >= 2
        assert all("Trying again in 0 s" in text for text in tries)

    asyncio.run(tried_twice())
