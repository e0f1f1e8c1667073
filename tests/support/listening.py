"""Where a program of a test listens: free ports of this machine."""

from __future__ import annotations

from typing import Any

LISTENING: dict[str, Any] = {
    "host": "127.0.0.1", "port": 0, "p2p_port": 0, "http_port": 0, "http_url": None, "public_hosts": (),
    "public_port": None, "public_p2p_port": None, "public_http_port": None, "max_upload": None,
    "tls": True,
}  # fmt: skip
"""Fields of `ListenSettings`."""
