"""An aiohttp application of a test's own, on a free port of 127.0.0.1.

Belongs here: its life. Not here: what it answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

__all__ = ["served"]


@asynccontextmanager
async def served(app: web.Application, *, shutdown_s: float = 60.0) -> AsyncIterator[str]:
    """``host:port`` where it answers, until the end of the block; its calls then have ``shutdown_s`` to end."""
    runner = web.AppRunner(app, shutdown_timeout=shutdown_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
