"""Where clients are received: the outer sockets of hub, guard and replay, and what comes in."""

from __future__ import annotations

import contextlib
import json
from typing import TypeAlias, cast

import zmq

from coldframe.errors import AlreadyRunning, BadRequest
from coldframe.messages import Command, Reply, decode, failure

Asker: TypeAlias = tuple[bytes, ...]  # the envelope an answer goes back in
Socket: TypeAlias = zmq.Socket[bytes]


def commands(context: zmq.Context[Socket], address: str, limit: int) -> Socket:
    """A ROUTER; a client that sends more than `limit` bytes at once is disconnected."""
    socket = context.socket(zmq.ROUTER)
    socket.router_mandatory = 1
    socket.router_handover = 1
    return _bound(socket, address, limit)


def streams(context: zmq.Context[Socket], address: str, limit: int, room: int) -> Socket:
    """An XPUB; a subscriber may be `room` messages behind."""
    socket = context.socket(zmq.XPUB)
    socket.sndhwm = room
    return _bound(socket, address, limit)


def _bound(socket: Socket, address: str, limit: int) -> Socket:
    socket.linger = 0
    socket.maxmsgsize = limit
    socket.handshake_ivl = 2000
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        socket.close()
        raise AlreadyRunning(
            f"{address}: {error.strerror}: a service or another replay is running there"
        ) from None
    return socket


def endpoint(socket: Socket) -> str:
    """Where a bound socket listens."""
    return cast(bytes, socket.getsockopt(zmq.LAST_ENDPOINT)).decode()


def open_envelope(frames: list[bytes]) -> tuple[Asker, Command | Reply]:
    """[identity] [empty, from a REQ socket] [JSON]: who asks, and the command, or the reply that
    says what is wrong with it."""
    start = 2 if len(frames) > 2 and not frames[1] else 1
    asker, data = tuple(frames[:start]), frames[start:]
    try:
        if len(data) != 1:
            raise BadRequest(f"{len(data)} frames: a command is one frame of JSON")
        return asker, decode(Command, data[0]).model_copy(update={"by": "local"})
    except BadRequest as error:
        return asker, failure(_id_of(data), error)


def _id_of(data: list[bytes]) -> str:
    """The id of a command that is otherwise wrong, so that its sender can tell which it was."""
    try:
        given = json.loads(data[0])["id"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ""
    return given if isinstance(given, str) and len(given) <= 64 else ""


def answer(socket: Socket, asker: Asker, reply: Reply) -> None:
    """A client that is gone, or does not read, loses its answer and nobody else's."""
    with contextlib.suppress(zmq.ZMQError):
        socket.send_multipart([*asker, reply.encode()], zmq.NOBLOCK)


def confirm(socket: Socket, subscription: bytes) -> None:
    """Answer a subscription to `sync TOKEN ` on that topic at once. Subscriptions of one connection
    come in order, so the answer means: all of them are in force, and a snapshot asked for now
    leaves no gap."""
    if subscription.startswith(b"\x01sync "):
        with contextlib.suppress(zmq.Again):
            socket.send_multipart([subscription[1:], b"{}"], zmq.NOBLOCK)
