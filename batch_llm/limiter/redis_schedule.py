"""A pool's schedule in Redis, shared by all processes and machines that use it.

Belongs here: keys, calls of the script, the memory as it comes back. Not here: what the script does (``lua/``, the same
as schedule.py and its parts), the connection (redis_link.py).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

from batch_llm.limiter.base import Limits, PoolChange, PoolView
from batch_llm.limiter.memory import CALLER, Memory, caller_key, job_key, user_key
from batch_llm.limiter.redis_link import RedisLink, Script, load_script
from batch_llm.limiter.views import checked_change, view_of
from batch_llm.limiter.wire import DIMENSIONS

__all__ = ["RedisSchedule"]

PARTS: Final = ("memory", "step", "throttling", "fair_share", "booking", "permits", "schedule")
KEYS: Final = ("state", "records", "backlogged", "holders", "known", "weights")
REDIS_TIME: Final = -1
FIRST_RECORD: Final = 3  # place in ARGV of the first key of a record
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
        records, numbers = _numbers_of(request, self._now())
        packed = await self._link.run_packed(SCRIPT, self._keys, "call", _doubles(numbers), *records)
        try:
            return _reply_of(packed, rules=len(request[4]), items=len(request[5]))
        except (struct.error, TypeError) as error:
            raise self._link.unreadable(SCRIPT, error) from error

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
        return await self._link.run(SCRIPT, self._keys, [what, self._now(), argument])

    def _now(self) -> int:
        return REDIS_TIME if self._now_us is None else self._now_us()


def _numbers_of(request: list[Any], now_us: int) -> tuple[list[str], list[float]]:
    """A call as the script takes it: the keys of the records it is about, and its numbers.

    The numbers: `lua/memory.lua` names the first of them; then each rule, each item (where its records' keys are in
    ARGV, what it is, six per dimension), each throttle, each observation, the days.
    """
    worker, epoch, seq, depth_s, rules, items, most, unknown, throttles, observed, outage, days, age_s = request
    counts = [len(rules), len(items), len(throttles), len(observed), len(days)]
    numbers = [now_us, epoch, seq, depth_s, most, unknown, outage, age_s, *counts]
    for place, *rule in rules:
        numbers += [place + 1, *rule]
    at: dict[str, int] = {}  # key -> its place in ARGV
    for user, job, lane, weight, rows, more, *amounts, waiting, in_flight, permits_wanted in items:
        for key in (user_key(lane, user), job_key(lane, user, job), caller_key(lane, user, job, worker)):
            numbers.append(at.setdefault(key, FIRST_RECORD + len(at)))
        numbers += [lane, weight, rows, more, waiting, in_flight, permits_wanted]
        numbers += [amount for six in zip(*amounts, strict=True) for amount in six]
    for triple in (*throttles, *observed):
        numbers += triple
    return list(at), [*numbers, *days]


def _reply_of(packed: bytes, *, rules: int, items: int) -> list[Any]:
    """`wire.Reply` as a list, from the script's numbers: seven, three per rule, and a grant per item."""
    length = 5 + 2 * rules
    numbers = list(struct.unpack(f"<{7 + 3 * rules + items * length}d", packed))
    epoch, seq, now_s, version, pause_s, pause_dimension, stray = numbers[:7]
    per_rule = numbers[7 : 7 + 3 * rules]
    rates, limits, days = per_rule[:rules], per_rule[rules : 2 * rules], per_rule[2 * rules :]
    grants = []
    for start in range(7 + 3 * rules, len(numbers), length):
        served, wait_s, binding, permits, suits_s, *slices = numbers[start : start + length]
        grants.append([int(served), wait_s, int(binding), slices[::2], slices[1::2], int(permits), suits_s])
    pause = [pause_s, pause_dimension]
    return [int(epoch), int(seq), now_s, int(version), rates, limits, *pause, int(stray), days, grants]


def _doubles(numbers: list[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


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
    of_caller = CALLER.OUT + len(DIMENSIONS)
    memory.records = {key: record[: of_caller if key[0] == "c" else 6] for key, record in _pairs(records)}
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
