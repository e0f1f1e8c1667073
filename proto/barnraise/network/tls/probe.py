"""What a server speaks on a port where no gRPC connection came about: gRPC says no more than that.

It looks without trust: what it finds is only used after a check, or in an error.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.contract.endpoints import Endpoint
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import RunId
from barnraise.core.reason import Reason
from barnraise.network.tls.certificates import ShownKey, read_shown, server_name

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The first bytes of an HTTP/2 client, and empty SETTINGS (RFC 9113)."""
_FRAME_BYTES = 9
_SETTINGS = 4


@dataclass(frozen=True)
class SpeaksPlainGrpc(Reason):
    """HTTP/2 without TLS."""


@dataclass(frozen=True)
class ForeignCertificate(Reason):
    """TLS with a certificate that no key of ours signed, as of a proxy."""


@dataclass(frozen=True)
class SpeaksNeither(Reason):
    """No server listens, or one of something else."""


Spoken = ShownKey | SpeaksPlainGrpc | ForeignCertificate | SpeaksNeither


async def probe(endpoint: Endpoint, run: RunId, seconds: float) -> Spoken:
    """Look at the server of an endpoint. seconds: for each of two connections."""
    certificate = await _certificate(endpoint, run, seconds)
    if certificate is None:
        return SpeaksPlainGrpc() if await _speaks_http2(endpoint, seconds) else SpeaksNeither()
    try:
        return read_shown(certificate)
    except MalformedRecord:
        return ForeignCertificate()


async def _certificate(endpoint: Endpoint, run: RunId, seconds: float) -> bytes | None:
    """The server's certificate (DER), unchecked; None where it speaks no TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    opening = asyncio.open_connection(
        endpoint.host, endpoint.port, ssl=context, server_hostname=server_name(run)
    )
    try:
        _, writer = await asyncio.wait_for(opening, seconds)
    except (OSError, ValueError, asyncio.TimeoutError):  # ssl.SSLError is an OSError
        return None
    found: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def _speaks_http2(endpoint: Endpoint, seconds: float) -> bool:
    try:
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection(endpoint.host, endpoint.port), seconds
        )
    except (OSError, asyncio.TimeoutError):
        return False
    try:
        writer.write(_PREFACE)
        frame = await asyncio.wait_for(reader.readexactly(_FRAME_BYTES), seconds)
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return frame[3] == _SETTINGS


def describe(spoken: SpeaksPlainGrpc | ForeignCertificate) -> tuple[str, str]:
    """Problem and fix, in words."""
    match spoken:
        case SpeaksPlainGrpc():
            return (
                "a server answers without TLS: what it says could be read and changed on the way",
                "Ask the maintainer to serve with TLS, which is the default of this version's"
                " `coordinator serve`; a proxy in front of it must pass TLS through (docs/SERVING.md).",
            )
        case ForeignCertificate():
            return (
                "a server answers with a certificate that is not of the run's key",
                "A proxy may be in front of the coordinator: ask the maintainer to let it pass TLS through"
                " (docs/SERVING.md).",
            )
        case _:
            assert_never(spoken)
