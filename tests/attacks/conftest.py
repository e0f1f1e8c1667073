"""What several attacks share."""

from __future__ import annotations

import pytest


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The address that the next connection seems to come from: those of this machine are not limited."""
    address = ["192.0.2.1"]
    monkeypatch.setattr("coordinator.guarded_port.client_group", lambda _: address[0])
    return address
