"""Calls of the libp2p daemon's control socket, each over a connection of its own that is always closed.

As hivemind's own calls, which do not close theirs where no answer comes or a peer cannot be reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import (
    P2PDaemonError,
    raise_if_failed,
    read_pbmsg_safe,
    write_pbmsg,
)
from hivemind.proto import p2pd_pb2
from hivemind.utils.multiaddr import Multiaddr

from barnraise.core.ids import PublicKey
from barnraise.network.peer_ids import key_of, peer_id_bytes
from barnraise.network.streams import Stream

MEMBER = "barnraise"
"""Name of the tag by which the daemon's connection manager knows a member of the run."""


async def identify(p2p: P2P) -> None:
    """Raises OSError, EOFError, P2PDaemonError where the daemon does not answer."""
    raise_if_failed(await _ask(p2p, p2pd_pb2.Request(type=p2pd_pb2.Request.IDENTIFY)))


async def connect(p2p: P2P, peer: PeerID, addresses: Sequence[str]) -> None:
    """Dial a peer. Raises as `identify`."""
    places = [Multiaddr(address).to_bytes() for address in addresses]
    request = p2pd_pb2.ConnectRequest(peer=peer.to_bytes(), addrs=places)
    raise_if_failed(await _ask(p2p, p2pd_pb2.Request(type=p2pd_pb2.Request.CONNECT, connect=request)))


async def disconnect(p2p: P2P, peer: PublicKey) -> None:
    """Close all connections to a peer, if there are any. Raises OSError, EOFError."""
    request = p2pd_pb2.DisconnectRequest(peer=peer_id_bytes(peer))
    await _ask(p2p, p2pd_pb2.Request(type=p2pd_pb2.Request.DISCONNECT, disconnect=request))


async def prefer(p2p: P2P, peer: PublicKey, weight: int) -> None:
    """Have the daemon keep the connections to a peer longest where it has too many. Raises as `identify`."""
    request = p2pd_pb2.ConnManagerRequest(
        type=p2pd_pb2.ConnManagerRequest.TAG_PEER, peer=peer_id_bytes(peer), tag=MEMBER, weight=weight
    )
    raise_if_failed(await _ask(p2p, p2pd_pb2.Request(type=p2pd_pb2.Request.CONNMANAGER, connManager=request)))


async def connected(p2p: P2P) -> list[tuple[PublicKey | None, list[str]]]:
    """The peers that are connected, and the addresses of their connections. None: of another kind of key.

    An address of a transport that hivemind cannot name, which a peer may choose, is left out.
    """
    answer = await _ask(p2p, p2pd_pb2.Request(type=p2pd_pb2.Request.LIST_PEERS))
    raise_if_failed(answer)
    return [(key_of(found.id), [*filter(None, map(_spelled, found.addrs))]) for found in answer.peers]


def _spelled(address: bytes) -> str | None:
    try:
        return str(Multiaddr(address))
    except ValueError:
        return None


async def open_stream(p2p: P2P, peer: PublicKey, protocol: str) -> Stream:
    """A new stream to a peer. Raises ConnectionError."""
    reader, writer = await p2p._client.control.daemon_connector.open_connection()
    request = p2pd_pb2.StreamOpenRequest(peer=peer_id_bytes(peer), proto=[protocol])
    answer = p2pd_pb2.Response()
    opened = False
    try:
        await write_pbmsg(writer, p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=request))
        await read_pbmsg_safe(reader, answer)
        raise_if_failed(answer)
        opened = True
    except P2PDaemonError as error:
        raise ConnectionError(str(error)) from None
    finally:
        if not opened:
            writer.close()
    return reader, writer


async def _ask(p2p: P2P, request: p2pd_pb2.Request) -> p2pd_pb2.Response:
    reader, writer = await p2p._client.control.daemon_connector.open_connection()
    answer = p2pd_pb2.Response()
    try:
        await write_pbmsg(writer, request)
        await read_pbmsg_safe(reader, answer)
    finally:
        writer.close()
    return answer
