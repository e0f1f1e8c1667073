"""Why no coordinator answers: the causes as types, and a diagnosis that finds them.

An error of gRPC has a code and a text that differs between versions. `diagnose` looks the name up, connects
and sends one line instead, as a person with `nc` does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from typing_extensions import assert_never

from barnraise.core.errors import Unreachable
from barnraise.core.reason import Reason
from barnraise.runtime.http_client import without_password
from peer.timing import Timing

PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Those that gRPC reads, in its order; it ignores their upper-case forms."""
_PROBE = b"GET / HTTP/1.0\r\n\r\n"
_ANSWER_BYTES = 32


@dataclass(frozen=True)
class NameNotFound(Reason):
    """The name of the host cannot be looked up."""

    host: str


@dataclass(frozen=True)
class ConnectionRefused(Reason):
    """The host answers, and no program listens on the port."""


@dataclass(frozen=True)
class ConnectionTimedOut(Reason):
    """Nothing answers: the host is off, or a firewall drops what is sent to it."""

    seconds: float


@dataclass(frozen=True)
class NoRoute(Reason):
    """This machine cannot send to the host."""

    error: str


class Speaks(Enum):
    """What a server that is no coordinator speaks."""

    HTTP = "HTTP"
    TLS = "TLS"
    OTHER = "other"


@dataclass(frozen=True)
class NotGrpc(Reason):
    """Another server has the port."""

    speaks: Speaks


@dataclass(frozen=True)
class NoReply(Reason):
    """A gRPC server accepts the connection and does not answer the request."""

    code: str
    """Of gRPC, such as `deadline_exceeded`."""


@dataclass(frozen=True)
class ThroughProxy(Reason):
    """The request went through a proxy, which could not pass it on."""

    variable: str
    """Of the environment."""
    proxy: str
    """Its host and port."""


@dataclass(frozen=True)
class TooManyCalls(Reason):
    """The coordinator answers no more calls of this address or key for now."""

    problem: str
    """In the coordinator's words."""


UnreachableCause = (
    NameNotFound
    | ConnectionRefused
    | ConnectionTimedOut
    | NoRoute
    | NotGrpc
    | NoReply
    | ThroughProxy
    | TooManyCalls
)


class CoordinatorUnreachable(Unreachable):
    """No coordinator answers at an address, by `cause`."""

    def __init__(self, address: str, cause: UnreachableCause) -> None:
        super().__init__(f"no coordinator answers at {address}: {describe(cause)}", fix=remedy(cause))
        self.address, self.cause = address, cause


async def diagnose(
    host: str, port: int, code: str, environment: Mapping[str, str], timing: Timing
) -> UnreachableCause:
    """Why a request to `host` failed. code: that of gRPC."""
    proxy = proxy_of(host, environment)
    if proxy is not None:
        return proxy
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timing.diagnosis)
    except socket.gaierror:
        return NameNotFound(host)
    except ConnectionRefusedError:
        return ConnectionRefused()
    except (TimeoutError, asyncio.TimeoutError):
        return ConnectionTimedOut(timing.diagnosis)
    except OSError as error:
        return NoRoute(error.strerror or str(error))
    try:
        writer.write(_PROBE)
        answer = await asyncio.wait_for(reader.read(_ANSWER_BYTES), timing.diagnosis)
    except (TimeoutError, asyncio.TimeoutError):
        return NoReply(code)
    except OSError:
        answer = b""
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return cause_of_answer(answer, code)


def cause_of_answer(answer: bytes, code: str) -> UnreachableCause:
    """The cause by the first bytes that the server sends after a line of HTTP."""
    if answer.startswith(b"HTTP/"):
        return NotGrpc(Speaks.HTTP)
    if answer[:2] == b"\x15\x03":  # a TLS alert
        return NotGrpc(Speaks.TLS)
    if len(answer) >= 9 and answer[3] in (0x04, 0x07):  # a SETTINGS or GOAWAY frame of HTTP/2
        return NoReply(code)
    return NotGrpc(Speaks.OTHER)


def proxy_of(host: str, environment: Mapping[str, str]) -> ThroughProxy | None:
    """The proxy that gRPC uses for `host`; None where it connects itself."""
    exempt = environment.get("no_grpc_proxy") or environment.get("no_proxy", "")
    if proxy_bypass_environment(host, {"no": exempt}):
        return None
    for variable in PROXY_VARIABLES:
        if proxy := environment.get(variable):
            return ThroughProxy(variable, without_password(proxy))
    return None


def describe(cause: UnreachableCause) -> str:
    """The cause in words."""
    match cause:
        case NameNotFound(host):
            return f"the name {host} cannot be looked up"
        case ConnectionRefused():
            return "the host refuses the connection"
        case ConnectionTimedOut(seconds):
            return f"nothing answered in {seconds:.0f} s"
        case NoRoute(error):
            return f"this machine cannot send to it ({error})"
        case NotGrpc(speaks):
            return _other_server(speaks)
        case NoReply(code):
            return f"it accepts the connection and does not answer ({code})"
        case TooManyCalls(problem):
            return f"it answers no more calls for now ({problem})"
        case ThroughProxy(variable, proxy):
            return f"the proxy {proxy} of {variable} did not pass the request on"
        case _:
            assert_never(cause)


def _other_server(speaks: Speaks) -> str:
    match speaks:
        case Speaks.HTTP:
            return "a web server has that port"
        case Speaks.TLS:
            return "a server that speaks TLS has that port"
        case Speaks.OTHER:
            return "another server has that port"
        case _:
            assert_never(speaks)


def remedy(cause: UnreachableCause) -> str:
    """What a person can do."""
    match cause:
        case NameNotFound():
            return "Check your connection and the name in the invite."
        case ConnectionRefused():
            return "Ask the maintainer whether the run is up, and whether its port is the one in the invite."
        case ConnectionTimedOut():
            return "Check your connection; ask the maintainer whether the run is up and its port open."
        case NoRoute():
            return "Check your connection."
        case NotGrpc():
            return "Ask the maintainer for the run's current invite, and whether its port is forwarded."
        case NoReply():
            return "The coordinator may be starting or overloaded: try again later."
        case TooManyCalls():
            return "Wait a minute: `peer join` tries again by itself."
        case ThroughProxy(variable):
            return f"Unset {variable}, or add the coordinator's host to no_proxy."
        case _:
            assert_never(cause)
