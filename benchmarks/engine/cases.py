"""The cases and what each promises.

Belongs here: the list. Not here: how a case runs (its own file). The figures to reach are those that the best other
tools were measured against, or the floor of the same run.
"""

from __future__ import annotations

from benchmarks.engine.case import Case, Target
from benchmarks.engine.faults import run_faults, run_together
from benchmarks.engine.kill import run_kill
from benchmarks.engine.limits import by_requests, by_tokens
from benchmarks.engine.memory import run_memory
from benchmarks.engine.outages import run_disk_full, run_dns_gone, run_provider_down
from benchmarks.engine.overhead import run_overhead
from benchmarks.engine.queues.compare import run_queues

__all__ = ["CASES"]


def _none(*figures: str) -> tuple[Target, ...]:
    return tuple(Target(figure, "<=", 0) for figure in figures)


def _use(use: float, rejected: int) -> tuple[Target, ...]:
    return (Target("use", ">=", use), Target("rejected", "<=", rejected), *_none("rows_lost"))


FAULTS = _none("rows_lost", "rows_duplicated", "wrong_kept", "failed_wrongly", "paid_twice")
OUTAGE = _none("rows_lost", "rows_not_ok", "rows_duplicated", "paid_twice")

CASES = (
    Case(
        "overhead",
        "rows of 60 tokens, no limit, no latency, 64 in flight: CPU per row, medians of ratios",
        run_overhead,
        (Target("ours_per_floor", "<=", 2.5), Target("openai_per_ours", ">=", 6.0)),
    ),
    Case("rpm-burst-1", "6,000 requests/min, latency 0.8 s, enforced by the second", by_requests(1.0), _use(0.99, 2)),
    Case("rpm-burst-60", "the same, a minute of unused rate saved up", by_requests(60.0), _use(0.98, 0)),
    Case("tpm-burst-1", "900,000 tokens/min, rows of 50 to 3,000, outputs unknown", by_tokens(1.0), _use(0.985, 5)),
    Case("tpm-burst-60", "the same, a minute of unused rate saved up", by_tokens(60.0), _use(0.97, 5)),
    Case(
        "memory",
        "10k, 100k, 1M short rows, no limit: peak of the process",
        run_memory,
        (Target("growth", "<=", 1.15), Target("peak_mb", "<=", 350)),
    ),
    Case(
        "kill",
        "kill -9 at 20 moments: while freezing, asking, between publish and promote, promoting",
        run_kill,
        (
            *_none("rows_lost", "rows_not_ok", "rows_duplicated", "paid_twice_beyond_in_flight"),
            Target("kills", ">=", 20),
        ),
    ),
    Case("faults-5", "5 % of the attempts spoiled, all kinds", run_faults(0.05), FAULTS),
    Case("faults-10", "10 % of the attempts spoiled, all kinds", run_faults(0.10), FAULTS),
    Case("provider-down", "the provider dies in the middle and is away for a minute", run_provider_down, OUTAGE),
    Case(
        "dns-gone",
        "no name is resolved for 10 s at the start, and for 30 s in the middle, all connections broken",
        run_dns_gone,
        OUTAGE,
    ),
    Case(
        "disk-full",
        "the journal's disk fills up; the user makes room and says the same again",
        run_disk_full,
        (
            Target("stopped_clearly", ">=", 1),
            *_none("rows_lost", "rows_not_ok", "rows_duplicated", "paid_twice_beyond_in_flight"),
        ),
    ),
    Case(
        "together",
        "the same command twice at once: the second waits or refuses",
        run_together,
        _none("rows_lost", "rows_not_ok", "rows_duplicated", "paid_twice", "ended_badly"),
    ),
    Case("queues", "a window and a journal file, a Redis stream, an SQL queue: an evaluation", run_queues),
)
