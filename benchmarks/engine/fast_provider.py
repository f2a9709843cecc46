"""`python fast_provider.py --port N [--latency-s S]`: chat completions as cheaply as Python can.

Belongs here: an HTTP/1.1 server on asyncio.Protocol that keeps connections and answers every chat completion with one
small fixed JSON (text and usage), at tens of thousands per second, so that it is small beside the clients that are
measured. Not here: limits, faults, checking requests (that is batch_llm/simulator). No import of batch_llm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import cast

__all__ = ["FastProvider", "Parser", "completion"]

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


def completion() -> bytes:
    """The one answer, with its head: the form of OpenAI's chat completions.

    Source: https://platform.openai.com/docs/api-reference/chat/object (read 2026-11-21).
    """
    answer = {
        "id": "chatcmpl-fast",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "simulator/fast",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "[simulated] calm", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 4, "total_tokens": 64},
    }
    return _response(json.dumps(answer).encode())


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return head + body


class Parser:
    """Cuts what comes over a connection into requests: path and nothing else."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The paths of the requests that are whole now."""
        paths = []
        rest = self._rest + data if self._rest else data
        while (end := rest.find(HEAD_END)) >= 0:
            head = rest[:end]
            whole = end + len(HEAD_END) + _length(head)
            if len(rest) < whole:
                break
            paths.append(head.split(b" ", 2)[1])
            rest = rest[whole:]
        self._rest = rest
        return paths


def _length(head: bytes) -> int:
    at = head.lower().find(LENGTH)
    return int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0


class FastProvider:
    """Counts, and makes the protocols."""

    def __init__(self, latency_s: float = 0.0) -> None:
        """``latency_s`` passes before each answer."""
        self.latency_s = latency_s
        self.answered = 0
        self.answer = completion()

    def protocol(self) -> _Connection:
        """For `loop.create_server`."""
        return _Connection(self)

    def other(self, path: bytes) -> bytes:
        """GET /stats and GET /healthz; 404 for the rest."""
        if path.startswith((b"/stats", b"/healthz")):
            told = {"answered": self.answered, "cpu_s": time.process_time()}
            return _response(json.dumps(told).encode())
        return _response(b"{}", b"404 Not Found")


class _Connection(asyncio.Protocol):
    def __init__(self, provider: FastProvider) -> None:
        self._provider = provider
        self._parser = Parser()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None

    def data_received(self, data: bytes) -> None:
        provider = self._provider
        for path in self._parser.feed(data):
            if not path.endswith(b"/chat/completions"):
                self._write(provider.other(path))
            elif provider.latency_s:
                asyncio.get_running_loop().call_later(provider.latency_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if self._transport is not None:
            self._provider.answered += 1
            self._write(self._provider.answer)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve(port: int, latency_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FastProvider(latency_s).protocol, "127.0.0.1", port, backlog=2_048)
    async with server:
        await server.serve_forever()


def _main() -> None:
    parser = argparse.ArgumentParser(description="Chat completions as cheaply as Python can.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-s", type=float, default=0.0)
    options = parser.parse_args()
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run  # type: ignore[assignment]  # its options are not used
    run(_serve(options.port, options.latency_s))


if __name__ == "__main__":
    _main()
