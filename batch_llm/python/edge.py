"""The sync edge: a coroutine run to its end by a caller that does not await.

Belongs here: finding a loop for it. Not here: what it does. A notebook's cell runs inside a loop that is running, which
can run nothing else meanwhile; there the coroutine gets a loop and a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["run_to_end"]

Result = TypeVar("Result")


def run_to_end(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Its result, or its error; blocking, wherever it is called."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    context = contextvars.copy_context()  # where a notebook keeps which cell prints
    with ThreadPoolExecutor(1, thread_name_prefix="batch_llm") as thread:
        return thread.submit(context.run, asyncio.run, coroutine).result()
