"""The cases: each figure that the shared limiter must reach, and how it is tried.

Belongs here: the table. Not here: the form of a case (case.py), how one is run.
Unless a case says otherwise: the limit is 60,000 requests per minute, `burst_s` 0, four users with one job each, always
backlogged in every worker, answers after 0.5 s, and the provider is a strict bucket of one second.
"""

from __future__ import annotations

from dataclasses import replace

from batch_llm.limiter.base import Limits
from benchmarks.limiter.case import Case, Fault, Load, Provider, Target

__all__ = ["CASES"]

ROWS = Limits("bench:rows", requests_per_minute=60_000, tokens_per_minute=60_000_000)  # rows of 500: half of the tokens
TOKENS = Limits("bench:tokens", requests_per_minute=600_000, tokens_per_minute=30_000_000)
BOTH = Limits("bench:both", requests_per_minute=60_000, tokens_per_minute=30_000_000)

USERS = ("ann", "bob", "cid", "dee")
FOUR = tuple(Load(user) for user in USERS)
FOUR_MIXED = tuple(Load(user, sigma=0.5) for user in USERS)
FORTY = tuple(Load(f"user{number:02}") for number in range(40))

NONE_REJECTED = Target("rejected", "<=", 0)
FULL = Target("use", ">=", 0.995)
NEARLY_FULL = Target("use", ">=", 0.985)
FAIR = Target("jain", ">=", 0.995)
BACK = (Target("back_s", "<=", 3.0), Target("use_after", ">=", 0.98))
FEW_CALLS = Target("calls_per_row", "<=", 0.06)

STEADY = tuple(
    Case(
        f"steady-{kind}-{workers}",
        f"steady, {kind}-bound",
        limits,
        loads,
        (FULL, NONE_REJECTED),
        workers,
        seconds=180,
    )
    for kind, limits, loads in (("rpm", ROWS, FOUR), ("tpm", TOKENS, FOUR_MIXED))
    for workers in (1, 4, 16)
)

WINDOWS = tuple(
    Case(
        f"windows-{window_s}-{kind}",
        f"provider counts per {window_s} s, {kind}-bound; windows beginning anywhere",
        replace(limits, pool=f"bench:window{window_s}", window_s=float(window_s)),
        loads,
        (Target("use", ">=", 0.99), NONE_REJECTED),
        seconds=180 if window_s == 60 else 60,
        quick_s=75 if window_s == 60 else 20 + window_s,
        provider=Provider(bucket_s=None, windows_s=(float(window_s),)),
    )
    for window_s in (1, 10, 60)
    for kind, limits, loads in (("rpm", ROWS, FOUR), ("tpm", TOKENS, FOUR_MIXED))
)

BIG_AND_SMALL = tuple(Load(user, tokens=tokens) for user, tokens in zip(USERS, (50, 3000, 50, 3000), strict=True))
ONE_ROW_JOBS = (
    Load("ann"),
    Load("bob"),
    Load("cid"),
    Load("cid", "small", workers=(0,), one_row_every_s=0.5),
    Load("dee", "small", workers=(1,), one_row_every_s=0.5),
)
UNBALANCED = (
    Load("ann", feeders=8),
    Load("bob", workers=(0,)),
    Load("cid", workers=(0, 1)),
    Load("dee", tokens=900, workers=(1,)),
)
JOINING = (
    Load("ann"),
    Load("bob", during=(0.25, 1.0)),
    Load("cid", during=(0.25, 0.75)),
    Load("dee", during=(0.5, 0.75)),
)
WEIGHTED = (
    Load("ann"),
    Load("bob"),
    Load("cid", "one", weight=1),
    Load("cid", "two", weight=2),
    Load("cid", "four", weight=4),
)

FAIRNESS = tuple(
    Case(f"{name}-{workers}", about, limits, loads, (FAIR, NONE_REJECTED, full), workers)
    for name, about, limits, loads, full in (
        ("rows-60-to-1", "rows of 50 and 3,000 tokens, tpm-bound", TOKENS, BIG_AND_SMALL, NEARLY_FULL),
        ("rows-two-limits", "rows of 50 and 3,000 tokens, both limits bind", BOTH, BIG_AND_SMALL, NEARLY_FULL),
        ("jobs-1-to-100000", "endless jobs beside jobs of one row", ROWS, ONE_ROW_JOBS, NEARLY_FULL),
        ("unbalanced", "8 feeders in each worker, 1 in one, 1 in two, 1 in one", ROWS, UNBALANCED, NEARLY_FULL),
        ("join-leave", "users join and leave; worst stretch", ROWS, JOINING, NEARLY_FULL),
        ("crowd-40", "40 users, all in all workers", ROWS, FORTY, NEARLY_FULL),
    )
    for workers in (4, 16)
)

WEIGHTS = tuple(
    Case(
        f"weights-{workers}",
        "users weigh 1:2:4, the jobs of the heaviest 1:2:4",
        ROWS,
        WEIGHTED,
        (Target("weight_error", "<=", 0.03), NONE_REJECTED, NEARLY_FULL),
        workers,
        user_weights={"ann": 1, "bob": 2, "cid": 4},
    )
    for workers in (4, 16)
)

FAULTS = tuple(
    Case(name, about, ROWS, FOUR, (NONE_REJECTED, *BACK), seconds=40, quick_s=24, fault=fault)
    for name, about, fault in (
        ("worker-killed", "kill -9 of one of four workers, with leases", Fault("kill_worker")),
        ("redis-0.3-kept", "Redis killed, back after 0.3 s, state kept", Fault("restart_redis", 0.4, 0.3)),
        ("redis-0.3-lost", "Redis killed, back after 0.3 s, empty", Fault("restart_redis", 0.4, 0.3, True)),
        ("redis-3-kept", "Redis killed, back after 3 s, state kept", Fault("restart_redis", 0.4, 3.0)),
        ("redis-3-lost", "Redis killed, back after 3 s, empty", Fault("restart_redis", 0.4, 3.0, True)),
        ("redis-emptied", "FLUSHALL", Fault("flush_redis")),
    )
)

CLOCKS = (
    Case("clocks-off", "worker clocks wrong by 5 minutes, both ways", ROWS, FOUR, (FULL, NONE_REJECTED),
         clocks_off_s=300),
)  # fmt: skip

CUT = tuple(
    Case(
        f"limit-cut-{workers}",
        "the provider cuts its limit by 30 % in the middle without telling",
        ROWS,
        FOUR,
        (Target("rejected_share", "<=", 0.003), Target("use_of_available", ">=", 0.93)),
        workers,
        quick_s=30,
        provider=Provider(answers_429=True, cut_at=0.5),
    )
    for workers in (4, 16)
)

TIER = Limits("bench:tier", requests_per_minute=3, requests_per_day=200)
TIER_LOADS = (Load("ann", rows=300), Load("bob", rows=300))
TIERS = tuple(
    Case(
        f"tier-{name}",
        about,
        limits,
        TIER_LOADS,
        (Target("rows_left", "<=", 0), Target("use", ">=", 0.985), NONE_REJECTED),
        workers=2,
        seconds=4 * 86_400,
        quick_s=4 * 86_400,
        provider=Provider(bucket_s=0.0, answers_429=True),
        runner="virtual",
    )
    for name, about, limits in (
        ("fixed-day", "3 per minute, 200 per day that begins at midnight in California; 600 rows",
         replace(TIER, day_resets="America/Los_Angeles")),
        ("rolling-day", "3 per minute, 200 per day that refill evenly; 600 rows", TIER),
    )
)  # fmt: skip

COSTS = (
    Case("calls-1000", "calls per row at 1,000 rows/s", ROWS, FOUR, (FEW_CALLS,), seconds=30),
    Case("calls-20000", "calls per row at 20,000 rows/s", replace(ROWS, requests_per_minute=1_200_000,
         tokens_per_minute=1_200_000_000), FOUR, (Target("calls_per_row", "<=", 0.001),), seconds=30,
         rows_at_once=512),
    Case("calls-20000-1", "the same, one worker, one user", replace(ROWS, requests_per_minute=1_200_000,
         tokens_per_minute=1_200_000_000), FOUR[:1], (Target("calls_per_row", "<=", 0.001),), 1, seconds=30,
         rows_at_once=512),
    Case("floor-1000", "no limiter: a local pacer in each worker at its part of the rate", ROWS, FOUR, (),
         seconds=30, floor=True),
    Case("client-cost", "the client alone, one process, 20,000 rows/s", replace(ROWS, requests_per_minute=1_200_000,
         tokens_per_minute=1_200_000_000), FOUR[:1], (Target("client_us_per_row", "<=", 3.0),), 1, seconds=15,
         quick_s=8, runner="client_cost", rows_at_once=512),
    Case("redis-cost", "Redis CPU per granting call", replace(ROWS, requests_per_minute=1e8, tokens_per_minute=1e11),
         FOUR, (Target("us_1_tenant", "<=", 50), Target("us_4_tenants", "<=", 80), Target("more_at_1000", "<=", 0.10)),
         1, seconds=10, quick_s=5, runner="redis_cost"),
)  # fmt: skip

# Reserving input + max_tokens takes several times what a row really uses, and what comes back when the provider's
# bucket is full is lost: with perfect knowledge a bucket of one row is used to 48 %, half of one second's bucket to
# 99.7 %. So the provider's burst has to be declared; a pool that declares none is the case `..-no-burst`.
# Nobody knows how long the next answers are, so with a bucket of one second a row must be a small part of it, as in
# life: of 16,700 tokens (a limit of 1,000,000 per minute) one row of 4,596 is a quarter. And what comes back in the
# half second for which slices are booked ahead must fit into it: with 4,096 max_tokens that is twice the bucket, with
# 1,024 a third. Therefore those two cases have 30,000,000 tokens per minute and 1,024.
LONGEST = {1: 1024, 10: 4096}  # seconds of bucket -> max_output_tokens
PER_MINUTE = {1: 30_000_000, 10: 1_000_000}  # .. -> tokens
AT_THE_END, CORRECTED = "what was used, at the end", "input + max_tokens, corrected at the end"
DEBITS = tuple(
    Case(
        f"debit-{name}",
        f"lognormal output lengths up to {LONGEST[bucket_s]}, {PER_MINUTE[bucket_s]:,} tokens per minute, provider "
        f"debits {about}, bucket of {bucket_s} s, burst_s {burst_s}",
        Limits(
            f"bench:debit{bucket_s}",
            requests_per_minute=60_000,
            tokens_per_minute=PER_MINUTE[bucket_s],
            debit=debit,  # type: ignore[arg-type]
            burst_s=burst_s,
        ),
        tuple(Load(user, output_sigma=0.8, max_output_tokens=LONGEST[bucket_s]) for user in USERS),
        (Target("use", ">=", 0.98), Target("rejected_per_10000", "<=", 1)),
        seconds=300 if bucket_s == 1 else 2400,
        quick_s=120 if bucket_s == 1 else 720,
        warm_s=40 if bucket_s == 1 else 120,  # what is in flight grows until as much comes back as is reserved
        provider=Provider(bucket_s=float(bucket_s), answers_429=True, latency_s=5.0, latency_sigma=0.5),
        runner="virtual",
    )
    for name, about, debit, bucket_s, burst_s in (
        ("actual-1", AT_THE_END, "actual", 1, 0.0),
        ("actual-10", AT_THE_END, "actual", 10, 0.0),
        ("corrected-1", CORRECTED, "input_plus_max_tokens_then_corrected", 1, 0.5),
        ("corrected-10", CORRECTED, "input_plus_max_tokens_then_corrected", 10, 5.0),
        ("corrected-10-no-burst", CORRECTED, "input_plus_max_tokens_then_corrected", 10, 0.0),
    )
)

CASES: tuple[Case, ...] = (
    *STEADY, *WINDOWS, *FAIRNESS, *WEIGHTS, *FAULTS, *CLOCKS, *CUT, *TIERS, *COSTS, *DEBITS,
)  # fmt: skip
