"""Putting an answer, or what a fault makes of it, on the wire.

Belongs here: bytes, pauses, broken connections. Not here: which fault it is (faults.py), what the text says.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from batch_llm.clock import Clock
from batch_llm.simulator.faults import FaultKind

__all__ = ["Outgoing", "deliver"]

DRIP_PIECES = 20
BROKEN_JSON = b'{"id": "chatcmpl-broken", "object": "chat.completion", "choices": [{"index": 0, "mess'
BROKEN_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>upstream</body></html>"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One 200 on its way."""

    pieces: list[bytes]
    headers: Mapping[str, str]
    streamed: bool  # server-sent events, else one JSON body
    gap_s: float = 0.0  # pause before each piece after the first
    fault: FaultKind | None = None
    variant: int = field(default=0)


async def deliver(request: web.BaseRequest, outgoing: Outgoing, clock: Clock) -> web.StreamResponse:
    """Send it; returns only when every byte was handed to the socket.

    Where the fault takes the connection away it never returns: the server cancels it once the connection is gone.
    """
    if outgoing.fault in (FaultKind.RESET, FaultKind.HANG):
        if outgoing.fault is FaultKind.RESET:
            _reset(request)
        await asyncio.Event().wait()
    pieces, gap_s = _spoiled(outgoing)
    kind = "text/event-stream; charset=utf-8" if outgoing.streamed else "application/json"
    headers = {**outgoing.headers, "content-type": kind}
    response: web.StreamResponse
    if len(pieces) == 1 and outgoing.fault is not FaultKind.TRUNCATED:
        response = web.Response(body=pieces[0], headers=headers)
        await response.prepare(request)
        await response.write_eof()
        return response
    response = web.StreamResponse(headers=headers)
    if not outgoing.streamed:
        response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    if outgoing.fault is FaultKind.TRUNCATED:
        whole = b"".join(pieces)
        await response.write(whole[: len(whole) // 2])
        if request.transport is not None:
            request.transport.close()  # what was written still goes out
        await asyncio.Event().wait()
    for number, piece in enumerate(pieces):
        if number and gap_s > 0:
            await clock.sleep(gap_s)
        await response.write(piece)
    await response.write_eof()
    return response


def _spoiled(outgoing: Outgoing) -> tuple[list[bytes], float]:
    pieces = outgoing.pieces
    if outgoing.fault is FaultKind.MALFORMED:
        broken = (BROKEN_JSON, BROKEN_PAGE)[outgoing.variant % 2]
        return ([pieces[0], b"data: " + broken + b"\n\n", pieces[-1]] if outgoing.streamed else [broken]), 0.0
    if outgoing.fault is FaultKind.DRIP and not outgoing.streamed:
        whole = pieces[0]
        size = max(1, -(-len(whole) // DRIP_PIECES))
        return [whole[at : at + size] for at in range(0, len(whole), size)], outgoing.gap_s
    if outgoing.streamed and outgoing.gap_s <= 0:
        return [b"".join(pieces)], 0.0
    return pieces, outgoing.gap_s


def _reset(request: web.BaseRequest) -> None:
    """Close without a goodbye: linger 0 makes the kernel send RST instead of FIN."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
