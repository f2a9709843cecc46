"""A pool's schedule in Redis, shared by all processes and machines that use it.

Belongs here: keys, calls of the script, the memory as it comes back. Not here: what the script does (``lua/``, the same
as schedule.py and its parts), the connection (redis_link.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from batch_llm.limiter.base import Limits, PoolChange, PoolView
from batch_llm.limiter.memory import Memory
from batch_llm.limiter.redis_link import RedisLink, Script, load_script
from batch_llm.limiter.views import checked_change, view_of
from batch_llm.limiter.wire import DIMENSIONS

__all__ = ["RedisSchedule"]

PARTS: Final = ("memory", "step", "throttling", "fair_share", "booking", "permits", "schedule")
KEYS: Final = ("state", "records", "backlogged", "holders", "known", "weights")
REDIS_TIME: Final = -1
CONSTANT: Final = re.compile(r"^local ([A-Z][A-Z0-9_]*) = (-?[\d.e-]+|'[^']*')(?: --.*)?$", re.MULTILINE)


def _with_values(text: str) -> str:
    """The script with the values of its constants in place of their names: Redis would make them anew at each call."""
    values = dict(CONSTANT.findall(text))
    names = re.compile(rf"\b({'|'.join(values)})\b")
    return names.sub(lambda name: values[name[0]], CONSTANT.sub("", text))


SCRIPT: Final = Script("schedule", _with_values(load_script("schedule", PARTS).text))


class RedisSchedule:
    """Implements `Schedule`: the limit is kept by all that use this Redis."""

    def __init__(self, link: RedisLink, pool: str, *, now_us: Callable[[], int] | None = None) -> None:
        """Takes over the link: `aclose` closes it.

        Args:
            link: The Redis.
            pool: `Limits.pool`.
            now_us: A test's clock; without one, Redis' own time counts.
        """
        self._link = link
        self._keys = [f"batch_llm:{{{pool}}}:{key}" for key in KEYS]
        self._now_us = now_us

    async def call(self, request: list[Any]) -> list[Any]:
        """See `Schedule.call`. Raises `LimiterUnreachable` or `LimiterStoreError`."""
        reply: list[Any] = await self._run("call", request)
        return reply

    async def view(self, limits: Limits) -> PoolView:
        """See `Schedule.view`. Raises as `call` does."""
        clock_s, memory = await self.read()
        return view_of(memory, limits, clock_s)

    async def change(self, limits: Limits, change: PoolChange) -> None:
        """See `Schedule.change`. Raises as `call` does."""
        await self._run("change", checked_change(limits, change))

    async def read(self) -> tuple[float, Memory]:
        """Redis' time, seconds, and the pool's whole memory. Raises as `call` does."""
        clock_s, *parts = await self._run("read", [])
        return clock_s, _memory_of(*parts)

    async def aclose(self) -> None:
        """See `Schedule.aclose`."""
        await self._link.aclose()

    async def _run(self, what: str, argument: list[Any]) -> Any:
        now_us = REDIS_TIME if self._now_us is None else self._now_us()
        return await self._link.run(SCRIPT, self._keys, [what, now_us, argument])


def _memory_of(
    numbers: list[float], tail: str, weights: list[Any], records: list[Any], times: list[list[Any]]
) -> Memory:
    """The memory as the script reads it: numbers in the order of lua/memory.lua, sets and hashes as flat lists."""
    memory, left = Memory(), iter(numbers)
    for name in _names(float):
        setattr(memory, name, next(left))
    next(left)  # how many weights there are
    for name in _names(list):
        if name != "lanes":
            setattr(memory, name, [next(left) for _ in DIMENSIONS])
    memory.lanes = [[next(left) for _ in lane] for lane in memory.lanes]
    memory.tail = tail
    memory.weights = {user: float(weight) for user, weight in _pairs(weights)}
    # struct.unpack tells where it stopped, as one number more
    memory.records = {key: record[: 11 if key[0] == "c" else 6] for key, record in _pairs(records)}
    memory.backlogged, memory.holders, memory.known = (
        {caller: float(at_s) for caller, at_s in _pairs(each)} for each in times
    )
    return memory


def _names(kind: type) -> list[str]:
    """The fields of `Memory` of one kind, in their order; float: whole numbers as well."""
    kinds = (int, float) if kind is float else (kind,)
    return [field.name for field in fields(Memory) if isinstance(getattr(Memory(), field.name), kinds)]


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)
