"""A process that spends: holds, writes down that it sends, pays a part. For test_shared_budget.py.

python -m tests.integration.spender URL FOLDER SLICE CAP_USD
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Set as AbstractSet
from decimal import Decimal
from itertools import count
from pathlib import Path

from batch_llm.clock import SystemClock
from batch_llm.errors import BudgetExhausted
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.redis_ledger import RedisLedger
from batch_llm.limiter.redis_link import RedisLink

USER = "alice"
HOLD_USD = Decimal("0.012345678")
AT_ONCE = 8


def journal_path(folder: Path, number: int) -> Path:
    """Lines of [monotonic seconds, request, USD, sent | paid]."""
    return folder / f"{number}.jsonl"


def spent_usd(folder: Path, but_for: AbstractSet[int] = frozenset()) -> dict[int, Decimal]:
    """What each slice has cost, requests without a bill in full."""
    found = {}
    for path in folder.glob("*.jsonl"):
        requests = {}
        for line in path.read_text().splitlines():
            try:
                _, request, usd, _ = json.loads(line)
            except json.JSONDecodeError:
                continue
            requests[request] = Decimal(usd)
        if int(path.stem) not in but_for:
            found[int(path.stem)] = sum(requests.values(), Decimal(0))
    return found


async def spend(budget: LedgerBudget, journal: int, number: int, names: count[int]) -> None:
    """One request after the other, until the money is used up."""

    def note(request: str, usd: Decimal, kind: str) -> None:
        os.write(journal, (json.dumps([time.monotonic(), request, str(usd), kind]) + "\n").encode())

    while True:
        try:
            hold = await budget.hold(HOLD_USD, number)
        except BudgetExhausted:
            return
        request = f"{os.getpid()}-{next(names)}"
        note(request, HOLD_USD, "sent")
        await asyncio.sleep(random.uniform(0.002, 0.02))
        paid = (HOLD_USD * random.randint(20, 100) / 100).quantize(Decimal("0.000000001"))
        note(request, paid, "paid")
        budget.settle(hold, paid)


async def main(url: str, folder: Path, number: int, cap_usd: Decimal) -> None:
    """Spend until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    base = spent_usd(folder).get(number, Decimal(0))
    path = journal_path(folder, number)
    journal = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        os.write(journal, b"\n")

    async def read(but_for: AbstractSet[int]) -> dict[int, Decimal]:
        return await asyncio.to_thread(spent_usd, folder, but_for)

    account = Account("run", USER, cap_usd)
    async with RedisLink(url) as link, LedgerBudget(RedisLedger(link), account, read, SystemClock()) as budget:
        budget.begin(number, base)
        names = count()
        tasks = [asyncio.create_task(spend(budget, journal, number, names)) for _ in range(AT_ONCE)]
        await stop.wait()
        for task in tasks:
            task.cancel()  # what is in flight has an unknown outcome
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Decimal(sys.argv[4])))
