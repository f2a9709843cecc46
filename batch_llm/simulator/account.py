"""One simulated account: key, limits, credit, faults, statistics, whatever endpoint is asked.

Belongs here: what all endpoints of a provider share. Not here: one endpoint's requests and answers (chat.py,
embeddings.py), how a limit counts (limits.py, meters.py).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from batch_llm.clock import Clock
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.draws import Draw, lognormal
from batch_llm.simulator.faults import CLOSES, FaultKind, FaultPlan
from batch_llm.simulator.limits import LIMIT_NAMES, Gate, Use
from batch_llm.simulator.refusals import (
    injected_rate_limit,
    insufficient_quota,
    missing_key,
    over_limit,
    overloaded,
    wrong_key,
)
from batch_llm.simulator.stats import Stats

__all__ = ["UNBILLED", "Account", "Asked"]

UNBILLED = frozenset({FaultKind.SERVER_ERROR, FaultKind.OVERLOADED, FaultKind.RESET, FaultKind.HANG})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of the account."""

    model: str
    prompts: tuple[int, ...]  # 64-bit hash of each thing it asks; one for a chat, one per input for embeddings
    use: Use


class Account:
    """A simulated account. All endpoints of a simulator share one."""

    def __init__(self, config: SimulatorConfig, clock: Clock) -> None:
        """Everything unused, counted from now on."""
        self.config = config
        self.clock = clock
        self.stats = Stats(clock.monotonic())
        self.gate = Gate(config, clock.monotonic(), unix_s=clock.now().timestamp())
        self._plan = FaultPlan(config.seed, config.faults)
        self._credit_used = 0

    def configure(self, config: SimulatorConfig) -> None:
        """Behave like this from the next request on; what is used of a limit stays used."""
        plan = FaultPlan(config.seed, config.faults)
        watched = (*LIMIT_NAMES, "burst_s", "window_s", "token_window_s", "day_resets_s", "count_rejected")
        if any(getattr(config, name) != getattr(self.config, name) for name in watched):
            unix_s = self.clock.now().timestamp()
            self.gate = Gate(config, self.clock.monotonic(), before=self.gate, unix_s=unix_s)
        self._plan = plan
        self.config = config

    def reset(self) -> None:
        """Forget statistics, attempts and spent credit; the limits keep what is used of them."""
        self.stats.restart(self.clock.monotonic())
        self.gate.count_anew()
        self._credit_used = 0

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise `Refused` (401) unless the request carries an acceptable key."""
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise missing_key()
        wanted = self.config.api_key
        if wanted is not None and not hmac.compare_digest(key.encode(), wanted.get_secret_value().encode()):
            raise wrong_key(key)

    def fate(self, prompt: int, attempt: int) -> tuple[FaultKind | None, int]:
        """The fault of this attempt, and random bits to vary it with."""
        return self._plan.draw(prompt, attempt)

    def latency_s(self, start: int) -> float:
        """How long an answer takes; ``start``: what the draw is a function of."""
        if self.config.latency_median_s <= 0:
            return 0.0
        return lognormal(Draw(start), self.config.latency_median_s, self.config.latency_sigma)

    def admit(self, asked: Asked, fault: FaultKind | None) -> None:
        """Count the request against every limit, or raise `Refused` and count nothing."""
        config, stats, now_s = self.config, self.stats, self.clock.monotonic()
        if config.max_concurrency is not None and stats.in_flight >= config.max_concurrency:
            raise overloaded("max_concurrency")
        if config.quota_requests is not None and self._credit_used >= config.quota_requests:
            raise insufficient_quota()
        if fault is FaultKind.RATE_LIMIT:
            self._note_attempts(asked)
            stats.fault(fault)
            refused = injected_rate_limit(asked.model, config.fault_retry_after_s)
            refused.headers.update(self.gate.headers(now_s))
            raise refused
        overrun = self.gate.admit(asked.use, now_s)
        if overrun is not None:
            refused = over_limit(asked.model, overrun)
            refused.headers.update(self.gate.headers(now_s))
            raise refused
        self._credit_used += 1
        self._note_attempts(asked)
        stats.accept(now_s)

    async def in_flight(
        self, asked: Asked, fault: FaultKind | None, answering: Coroutine[Any, Any, web.StreamResponse]
    ) -> web.StreamResponse:
        """Answer, counted as in flight; a client that goes away before is noted."""
        self.stats.begin()
        try:
            return await answering
        except asyncio.CancelledError:
            if fault not in CLOSES:
                self._note_closed(asked)
            raise
        except ConnectionError:
            self._note_closed(asked)
            return web.Response()  # nobody is there to read it; aiohttp drops it quietly
        finally:
            self.stats.end()

    def _note_attempts(self, asked: Asked) -> None:
        for prompt in asked.prompts:
            self.stats.attempt(prompt)

    def _note_closed(self, asked: Asked) -> None:
        for prompt in asked.prompts:
            self.stats.closed(prompt)
