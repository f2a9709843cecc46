"""The cases rpm-.. and tpm-..: how much of a limit is used, and whether the provider ever has to refuse.

Belongs here: running a job against a simulator that enforces a limit strictly. Not here: the arithmetic (judge.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.engine.case import Findings, Scope
from benchmarks.engine.judge import use_of_limit
from benchmarks.engine.lab import Lab, last_lines
from benchmarks.engine.provider_process import simulator
from benchmarks.engine.tables import long_and_short, sixty_tokens

__all__ = ["by_requests", "by_tokens"]

LATENCY: dict[str, Any] = {"latency_median_s": 0.8, "latency_sigma": 0.5}
OUTPUT: dict[str, Any] = {"answer_tokens_median": 200, "answer_tokens_sigma": 0.5}
WORK_S, QUICK_S = 310, 60  # of work at the limit, beside the saved-up burst
STRICT_BURST_S = 1.0  # "no burst": what a provider that enforces by the second lets through
REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE = 6_000, 900_000
TOKENS_PER_ROW = 1_750  # mean: prompts of 50 to 3,000, outputs lognormal with median 200


@dataclass(frozen=True, slots=True)
class _Limit:
    name: str
    per_minute: float
    rows_per_s: float  # at the limit
    text: Callable[[int], str]
    settings: dict[str, Any]
    counted: tuple[str, ...]  # what of /stats the limit counts


REQUESTS = _Limit("requests_per_minute", REQUESTS_PER_MINUTE, 100.0, sixty_tokens, LATENCY, ("accepted",))
TOKENS = _Limit(
    "tokens_per_minute", TOKENS_PER_MINUTE, TOKENS_PER_MINUTE / 60 / TOKENS_PER_ROW, long_and_short, LATENCY | OUTPUT,
    ("input_tokens", "output_tokens"),
)  # fmt: skip


def by_requests(burst_s: float) -> Callable[[Scope], Findings]:
    """6,000 requests per minute; the provider keeps ``burst_s`` of unused rate."""
    return lambda scope: _run(scope, REQUESTS, burst_s)


def by_tokens(burst_s: float) -> Callable[[Scope], Findings]:
    """900,000 tokens per minute, outputs of unknown length."""
    return lambda scope: _run(scope, TOKENS, burst_s)


def _run(scope: Scope, limit: _Limit, burst_s: float) -> Findings:
    saved_s = burst_s if burst_s > STRICT_BURST_S else 0.0
    rows = scope.rows(round((WORK_S + saved_s) * limit.rows_per_s), round((QUICK_S + saved_s) * limit.rows_per_s))
    lab = Lab(scope.folder / "lab")
    lab.table(rows, limit.text)
    lab.job()
    settings = {limit.name: limit.per_minute, "burst_s": burst_s, **limit.settings}
    with simulator(scope.folder / "simulator", **settings) as provider:
        lab.providers(provider.port, {limit.name: limit.per_minute}, burst_s=saved_s)
        ended = lab.run()
        stats = provider.stats()
    findings = Findings(seen=[f"exit {ended.returncode}: {last_lines(ended.stderr, 1)}"])
    if ended.returncode not in (0, 1):
        findings.trouble.append(f"ended with {ended.returncode}: {last_lines(ended.stderr)}")
        return findings
    span_s = stats["last_accepted_s"] - stats["first_accepted_s"]
    per_s = limit.per_minute / 60
    units = sum(stats[name] for name in limit.counted)
    findings.figures = {
        "use": use_of_limit(units, per_s, span_s, burst_s * per_s),
        "rejected": stats["rejected_total"],
        "rows_lost": lab.output().expected - lab.output().ok,
        "rows": rows,
        "span_s": span_s,
        "before_first_and_after_last_s": ended.wall_s - span_s,
        "max_in_flight": stats["max_in_flight"],
        "cpu_us_per_row": ended.cpu_s / rows * 1e6,
    }
    return findings
