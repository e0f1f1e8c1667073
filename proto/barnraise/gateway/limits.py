"""What the gateway spends on its clients at most, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GatewayLimits:
    """Limits of one gateway; times in seconds."""

    max_connections: int = 512
    """One address may take as many of them as it leaves free (`barnraise.core.places`); above that its
    connections are closed at once. Through a proxy on this machine twice as many are accepted, and requests
    above this get a 503."""
    max_downloads: int = 256
    """Files sent at the same time, shared in the same way. Above this a request gets a 429, which Hub clients
    and curl repeat."""
    retry_after: int = 5
    """Until a refused client should try again (the header Retry-After)."""
    request_seconds: float = 20.0
    """From a connection, or from the first byte of a later request on it, to the end of that request."""
    stall_seconds: float = 60.0
    """A client that receives less than a chunk in this time is disconnected; a chunk is 64 KiB at least."""
    body_bytes: int = 256 * 1024
    """Largest request body: a list of paths is the longest that clients send."""
    body_seconds: float = 10.0
    """For a request body to arrive."""
    rescan_seconds: float = 5.0
    """Between two scans for files that the index names and that are missing: a mirror may be copying."""
    fast_chunk_seconds: float = 0.1
    """A client that receives a chunk in less gets chunks twice as large; another one half as large."""


LIMITS = GatewayLimits()
