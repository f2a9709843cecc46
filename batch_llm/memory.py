"""How a process that works through millions of rows hands memory back.

Belongs here: the choice of allocators, for processes of our own (commands, Dagster's steps). Not here: how much is held
at a time (engine/window.py, warehouse). A program that uses batch_llm as a library keeps its own choice.

Rows go through a few threads in turn. Each has a heap of its own, in the C library and in Arrow's pool, and keeps what
it once needed: 100,000 rows peaked at 285 MB, with one heap for all at 233 MB, at the same speed (measured, glibc 2.36,
pyarrow 26.0.1).

A large piece has pages of its own, which go back to the system with it, and so does the free end of the heap. Left
alone, glibc raises both bounds to the largest piece it ever saw (up to 32 MB), and the heap is stretched by the next
ones: by 5 MB while 120,000 rows were asked, by 2 MB at the peak (measured).
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["give_back", "one_heap"]

# Source: glibc, malloc/malloc.h (read 2026-11-28)
_ARENA_MAX = -8  # M_ARENA_MAX
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
LARGE_BYTES = 1 << 20
_C = ctypes.CDLL(None)  # the C library; what glibc alone has is looked for by name
_ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"


def give_back() -> None:
    """Return what is free at the end of the heap and between its parts to the system; some milliseconds."""
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)


def one_heap() -> None:
    """From now on all threads of this process share one heap that shrinks, unless the environment says otherwise."""
    if _ARROW_POOL not in os.environ:
        os.environ[_ARROW_POOL] = "system"  # read when pyarrow is imported; children have it, too
        arrow = sys.modules.get("pyarrow")
        if arrow is not None:
            arrow.set_memory_pool(arrow.system_memory_pool())
    mallopt = getattr(_C, "mallopt", None)
    if mallopt is None:
        return
    for name, parameter, value in (
        ("MALLOC_ARENA_MAX", _ARENA_MAX, 1),
        ("MALLOC_MMAP_THRESHOLD_", _MMAP_THRESHOLD, LARGE_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", _TRIM_THRESHOLD, LARGE_BYTES),
    ):
        if name not in os.environ:
            mallopt(parameter, value)
