"""The ledger of money in Redis, shared by all processes and machines that use it.

Belongs here: keys, and calls of the script. Not here: what the script does (lua/ledger.lua), the connection
(redis_link.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from batch_llm.limiter.ledger import SETTLING_S, Accounts, LedgerCall, LedgerReply, ScopeView, checked_caps
from batch_llm.limiter.redis_link import RedisLink, load_script

__all__ = ["RedisLedger"]

PREFIX: Final = "batch_llm:{ledger}:"
KEYS: Final = tuple(PREFIX + name for name in ("meta", "writers", "users", "days", "caps", "lost"))
SETTLING_US: Final = round(SETTLING_S * 1_000_000)
SCRIPT: Final = load_script("ledger", ["ledger"])


class RedisLedger:
    """Money shared by all that use this Redis; implements `Ledger`."""

    def __init__(self, link: RedisLink, *, now_us: Callable[[], int] | None = None) -> None:
        """Takes over the link: `aclose` closes it.

        Args:
            link: The Redis.
            now_us: A test's clock; without one, Redis' own time counts.
        """
        self._link = link
        self._now_us = now_us

    async def call(self, call: LedgerCall) -> LedgerReply:
        """See `Ledger.call`."""
        return LedgerReply.from_wire(await self._run("call", call.run, call.to_wire()))

    async def settle_now(self) -> None:
        """Promise money from now on, without waiting `SETTLING_S` for writers of an older state to speak.

        Only while it is certain that nobody else uses this Redis. It holds for the server as it runs now: one that is
        restarted or emptied later, when others may hold money, settles again.
        """
        await self._run("settle", "", [])

    async def set_caps(self, caps: Mapping[str, Decimal | None]) -> None:
        """See `Ledger.set_caps`."""
        checked = checked_caps(caps)
        await self._run("caps", "", [[name, -1 if nano is None else nano] for name, nano in checked.items()])

    async def view(self) -> tuple[ScopeView, ...]:
        """See `Ledger.view`."""
        now_us, writers, *flat = await self._run("view", "", [])
        users, days, caps = ({each[n]: int(each[n + 1]) for n in range(0, len(each), 2)} for each in flat)
        seen = [(each[0], each[1], each[2], each[6] if each[6] >= 0 else None, each[7]) for each in writers]
        return Accounts(now_us, seen, users, days, caps).views()

    async def aclose(self) -> None:
        """See `Ledger.aclose`."""
        await self._link.aclose()

    async def _run(self, what: str, run: str, said: list[Any]) -> Any:
        now_us = -1 if self._now_us is None else self._now_us()
        keys = (*KEYS, f"{PREFIX}run:{run}")
        return await self._link.run(SCRIPT, keys, [what, now_us, SETTLING_US, said])
