"""One question at a time to a part of the service, with a bound on the wait."""

from __future__ import annotations

import time

import zmq

from coldframe.messages import Command, Reply, decode


class Peer:
    """One question at a time to a ROUTER of ours."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str):
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.connect(address)

    def ask(self, command: Command, seconds: float) -> Reply | None:
        """The reply, or None when it does not come in time; older replies are thrown away."""
        self.socket.send(command.encode())
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            if self.socket.poll(round(remaining * 1000) + 1):
                reply = decode(Reply, self.socket.recv_multipart()[-1])
                if reply.id == command.id:
                    return reply
        return None
