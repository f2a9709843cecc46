"""Tokens waiting in the provider's native batches, of which a pool may have only so many (`enqueued_tokens`).

Belongs here: counting them, for all processes. Not here: submitting and harvesting batches, waiting for room.

A batch runs at the provider, whatever becomes of the process that submitted it: its tokens are counted until somebody
gives them back, and at most `FORGOTTEN_S`, when every provider has ended it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from batch_llm.clock import Clock
from batch_llm.errors import NeverFits
from batch_llm.limiter.redis_link import RedisLink, load_script

__all__ = ["FORGOTTEN_S", "EnqueuedTokens", "InProcessEnqueued", "RedisEnqueued"]

FORGOTTEN_S: Final = 259_200.0  # 3 days; the providers end a batch after one or two
SCRIPT: Final = load_script("enqueued", ["enqueued"])


class EnqueuedTokens(Protocol):
    """The tokens of each pool's native batches. Raises `LimiterUnreachable` and `LimiterStoreError` if it is shared."""

    async def take(self, pool: str, batch_id: str, tokens: int, limit: int) -> bool:
        """Count a batch that is about to be submitted, if there is room under the limit; True again for a counted one.

        Raises `NeverFits` for a batch that is larger than the limit itself.
        """
        ...

    async def give_back(self, pool: str, batch_id: str) -> None:
        """The batch ended, or was not submitted; a second time is harmless."""
        ...

    async def taken(self, pool: str) -> int:
        """Tokens waiting now."""
        ...


class InProcessEnqueued:
    """Implements `EnqueuedTokens` in this process only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._batches: dict[str, dict[str, tuple[int, float]]] = {}

    async def take(self, pool: str, batch_id: str, tokens: int, limit: int) -> bool:
        """See `EnqueuedTokens.take`."""
        _check(pool, tokens, limit)
        batches = self._kept(pool)
        if batch_id in batches:
            return True
        if sum(each for each, _ in batches.values()) + tokens > limit:
            return False
        batches[batch_id] = (tokens, self._clock.now().timestamp())
        return True

    async def give_back(self, pool: str, batch_id: str) -> None:
        """See `EnqueuedTokens.give_back`."""
        self._kept(pool).pop(batch_id, None)

    async def taken(self, pool: str) -> int:
        """See `EnqueuedTokens.taken`."""
        return sum(tokens for tokens, _ in self._kept(pool).values())

    def _kept(self, pool: str) -> dict[str, tuple[int, float]]:
        oldest = self._clock.now().timestamp() - FORGOTTEN_S
        kept = {name: each for name, each in self._batches.get(pool, {}).items() if each[1] >= oldest}
        self._batches[pool] = kept
        return kept


class RedisEnqueued:
    """Implements `EnqueuedTokens` for all that use this Redis."""

    def __init__(self, link: RedisLink, *, now_us: Callable[[], int] | None = None) -> None:
        """``link`` stays the caller's; ``now_us``: a test's clock; without one, Redis' own time counts."""
        self._link = link
        self._now_us = now_us

    async def take(self, pool: str, batch_id: str, tokens: int, limit: int) -> bool:
        """See `EnqueuedTokens.take`."""
        _check(pool, tokens, limit)
        return bool(await self._run(pool, "take", batch_id, tokens, limit))

    async def give_back(self, pool: str, batch_id: str) -> None:
        """See `EnqueuedTokens.give_back`."""
        await self._run(pool, "give_back", batch_id)

    async def taken(self, pool: str) -> int:
        """See `EnqueuedTokens.taken`."""
        return int(await self._run(pool, "view"))

    async def _run(self, pool: str, what: str, *said: Any) -> Any:
        now_us = -1 if self._now_us is None else self._now_us()
        return await self._link.run(SCRIPT, [f"batch_llm:{{{pool}}}:enqueued"], [what, now_us, *said])


def _check(pool: str, tokens: int, limit: int) -> None:
    if tokens < 0:
        raise ValueError(f"tokens cannot be negative: {tokens}")
    if tokens > limit:
        raise NeverFits(
            f"a batch of {tokens} tokens is larger than all that may wait in the batches of {pool}, {limit} tokens "
            "(enqueued_tokens): submit smaller ones"
        )
