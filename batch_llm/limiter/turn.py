"""One process at a time calls providers in a home, until the limiter is shared.

Belongs here: taking and giving back the turn. Not here: pacing. Goes away with the shared limiter
(docs/decisions/0003).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from batch_llm.clock import Clock

__all__ = ["turn_to_call"]

POLL_S = 0.25


@asynccontextmanager
async def turn_to_call(path: Path, clock: Clock, on_wait: Callable[[str], None] | None = None) -> AsyncIterator[None]:
    """Hold the home's turn while the body runs; wait for it first, and say so once.

    The lock goes with the process: a killed holder frees it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        told = False
        while not _taken(file):
            if not told and on_wait is not None:
                on_wait(f"another process of this home is calling the provider{_holder(file)}; waiting for its end")
            told = True
            await clock.sleep(POLL_S)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: int) -> str:
    pid = os.pread(file, 32, 0).decode(errors="replace").strip()
    return f" (process {pid})" if pid.isdigit() else ""
