"""A server that is no proper Redis: hangs, hangs up, talks nonsense, or is of another version.

Belongs here: what a real Redis cannot be made to do. Not here: the real one (redis_server.py).
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Answer", "bulk", "hang", "hang_up", "info", "odd_redis", "reset"]

Answer = Callable[[bytes, socket.socket], bytes]


def bulk(text: str) -> bytes:
    """A bulk string of the protocol."""
    raw = text.encode()
    return b"$%d\r\n%s\r\n" % (len(raw), raw)


def info(version: str, **more: str) -> bytes:
    """The answer to INFO."""
    lines = [f"redis_version:{version}", *(f"{name}:{value}" for name, value in more.items())]
    return bulk("# Server\r\n" + "\r\n".join(lines) + "\r\n")


def hang(sent: bytes, connection: socket.socket) -> bytes:
    """Say nothing, ever."""
    return b""


def hang_up(sent: bytes, connection: socket.socket) -> bytes:
    """Close the connection."""
    connection.shutdown(socket.SHUT_RDWR)
    return b""


def reset(sent: bytes, connection: socket.socket) -> bytes:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return b""


@contextmanager
def odd_redis(answer: Answer) -> Iterator[str]:
    """The URL of a server on a free port that calls ``answer`` for whatever it is sent, and sends what it returns."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                while sent := self.request.recv(65536):
                    self.request.sendall(answer(sent, self.request))
            except OSError:
                pass  # hung up, by us or by the other side

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"redis://:planted-redis-pw@127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()
