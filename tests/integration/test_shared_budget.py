"""Three processes spend under one cap over one real Redis, while they and Redis are killed.

The judge knows nothing of the ledger: it replays what the processes wrote down, by the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from batch_llm.clock import SystemClock
from batch_llm.limiter.budget import Account, LedgerBudget
from batch_llm.limiter.redis_ledger import RedisLedger
from batch_llm.limiter.redis_link import RedisLink
from tests.integration.spender import USER, journal_path, spent_usd
from tests.redis_server import RedisServer, redis_server

ROOT = Path(__file__).parents[2]
CAP_USD = Decimal(40)
SPENDERS = 3
ENOUGH_S = 120.0


class Spenders:
    """The processes, one per slice of the run; a dead one is replaced by another on the same slice."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for number in range(SPENDERS):
            self.processes.append(self._started(number))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _started(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.integration.spender", self.url, str(self.folder), str(number)]
        log = (self.folder / f"{number}.log").open("ab")
        with log:
            return subprocess.Popen([*command, str(CAP_USD)], cwd=ROOT, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """kill -9, and another at once."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._started(number)

    def end(self) -> None:
        """Let all close their budgets."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for number, process in enumerate(self.processes):
            assert process.wait(ENOUGH_S) == 0, (self.folder / f"{number}.log").read_text()

    def until_spent(self, share: float) -> None:
        """Until so much of the cap is spent, as the journals say."""
        end = time.monotonic() + ENOUGH_S
        while sum(spent_usd(self.folder).values()) < CAP_USD * Decimal(share):
            assert time.monotonic() < end, [log.read_text() for log in self.folder.glob("*.log")]
            time.sleep(0.05)


def events(folder: Path) -> Iterator[tuple[float, Decimal]]:
    """(time, change of what is spent or held): a request counts in full from its hold until its bill."""
    for number in range(SPENDERS):
        held: dict[str, Decimal] = {}
        for line in journal_path(folder, number).read_text().splitlines():
            try:
                at_s, request, usd, kind = json.loads(line)
            except json.JSONDecodeError:
                continue  # the torn line of a killed process: its request was not sent
            if kind == "sent":
                held[request] = Decimal(usd)
                yield at_s, Decimal(usd)
            else:
                yield at_s, Decimal(usd) - held.pop(request)


def most_usd(folder: Path) -> Decimal:
    """The most that was ever spent and held at once."""
    total = most = Decimal(0)
    for _, change in sorted(events(folder)):
        total += change
        most = max(most, total)
    return most


def kill_two(spenders: Spenders, server: RedisServer) -> None:
    spenders.until_spent(0.2)
    spenders.kill(0)
    spenders.until_spent(0.4)
    spenders.kill(1)


def empty_redis(spenders: Spenders, server: RedisServer) -> None:
    spenders.until_spent(0.2)
    with server.client() as client:
        client.flushall()
    spenders.until_spent(0.4)
    spenders.kill(0)
    with server.client() as client:
        client.flushall()


def restart_redis(spenders: Spenders, server: RedisServer) -> None:
    spenders.until_spent(0.3)
    server.kill()
    spenders.kill(2)
    time.sleep(0.3)
    server.start()


@pytest.mark.parametrize("mischief", [kill_two, empty_redis, restart_redis])
def test_all_together_never_spend_more_than_the_cap(
    tmp_path: Path, mischief: Callable[[Spenders, RedisServer], None]
) -> None:
    """At no moment is more spent and held than the cap, and nearly all of it can be spent."""
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(tmp_path))
        spenders = stack.enter_context(Spenders(tmp_path, server.url))
        mischief(spenders, server)
        spenders.until_spent(0.9)  # the rest may be reserved for the killed until they are known to be dead
        time.sleep(1)
        spenders.end()
        spent = sum(spent_usd(tmp_path).values())
        assert CAP_USD * Decimal("0.9") <= spent <= most_usd(tmp_path) <= CAP_USD
        asyncio.run(everything_is_known(tmp_path, server.url, spent))


async def everything_is_known(folder: Path, url: str, spent: Decimal) -> None:
    """Who opens the run now hears what was spent, to the last nano-dollar."""

    async def read(but_for: object) -> dict[int, Decimal]:
        return spent_usd(folder)

    async with RedisLink(url) as link:
        account = Account("run", USER, CAP_USD)
        async with LedgerBudget(RedisLedger(link), account, read, SystemClock()) as budget:
            assert budget.spent_usd == spent
