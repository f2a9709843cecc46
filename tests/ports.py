"""Ports for servers that tests start.

Belongs here: the choice of a port that stays the server's own while it is stopped and started again.
Below the range from which the kernel serves port 0 and outgoing connections (32768 and up, ip(7)): a port of that
range, free a moment ago, may be anybody's when the server binds it; its client would talk to another server.
"""

from __future__ import annotations

import random
import socket

__all__ = ["own_port"]

LOWEST, HIGHEST = 15_000, 32_000


def own_port() -> int:
    """A port of 127.0.0.1 on which nothing listens and which the kernel gives to nobody by itself."""
    choice = random.SystemRandom()  # not the seeded one: two workers with the same seed would choose alike
    while True:
        port = choice.randrange(LOWEST, HIGHEST)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
