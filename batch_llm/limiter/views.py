"""A pool as people see it, and what they change of it.

Belongs here: reading a pool's memory, wherever it lies, and checking a change. Not here: the algorithm
(schedule.py), printing (cli/limits.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from batch_llm.errors import LimiterError
from batch_llm.limiter.base import DimensionView, Limits, PoolChange, PoolView, Priority, TenantView
from batch_llm.limiter.debit import rules_of
from batch_llm.limiter.fair_share import FLOW_FADE_S, HEARTBEAT_S, SILENT_S, faded
from batch_llm.limiter.memory import CALLER, JOB, SEPARATOR, Memory, Record, job_key
from batch_llm.limiter.schedule import USE_FADE_S, flow_after
from batch_llm.limiter.wire import CLOCK, DIMENSIONS, FIXED, LANES, UNDECLARED_DAY, Rule

__all__ = ["CHANGEABLE", "checked_change", "view_of"]

MINUTE_S = 60.0
DAY_S = 86_400.0
STALE_S = 10.0  # a job that was given nothing for longer, and waits for nothing, has no part any more
LARGEST_LIMIT, LARGEST_WEIGHT = 1e15, 1e6
CHANGEABLE = tuple(name if name.endswith("_per_day") else f"{name}_per_minute" for name in DIMENSIONS)


def checked_change(limits: Limits, change: PoolChange) -> list[Any]:
    """The change in the form that `PoolSchedule.change` and the script take.

    ``[[place in DIMENSIONS, units per second], ..], [[user, weight], ..], resume``; 0 takes a change back. Raises
    `LimiterError` for a limit that the pool does not declare or a value not above 0.
    """
    declared = {rule.name for rule in rules_of(limits, datetime.now(UTC))}
    changed = []
    for name, value in change.limits.items():
        place = _place(name)
        if DIMENSIONS[place] not in declared:
            raise LimiterError(
                f"pool {limits.pool} declares no {name}; add it to `limits` in the providers file, then change it here"
            )
        if value is not None and not 0 < value < LARGEST_LIMIT:
            raise LimiterError(f"{name} must be a number above 0, got {value!r}")
        per_s = MINUTE_S if name.endswith("_minute") else DAY_S
        changed.append([place, 0.0 if value is None else value / per_s])
    weights = []
    for user, weight in change.user_weights.items():
        if weight is not None and not 0 < weight < LARGEST_WEIGHT:
            raise LimiterError(f"the weight of user {user!r} must be a number above 0, got {weight!r}")
        weights.append([user, 0.0 if weight is None else float(weight)])
    return [changed, weights, 1 if change.resume else 0]


def view_of(memory: Memory, limits: Limits, clock_s: float) -> PoolView:
    """What the memory says of the pool. ``clock_s``: of the clock that the schedule is called with."""
    rules = rules_of(limits, _at(clock_s))
    now_s = clock_s + memory.skew_s
    dimensions = [_dimension(memory, limits, rule, now_s) for rule in rules]
    if limits.max_concurrency is not None:
        in_flight = sum(
            record[CALLER.IN_FLIGHT]
            for key, record in memory.records.items()
            if key[0] == "c" and now_s - record[CALLER.SEEN] < HEARTBEAT_S
        )
        most = float(limits.max_concurrency)
        dimensions.append(DimensionView("concurrency", most, most, in_flight))
    paused_s = max(0.0, memory.pause_until_s - now_s)
    factor = min((memory.factor[DIMENSIONS.index(rule.name)] for rule in rules if rule.kind == CLOCK), default=1.0)
    return PoolView(
        limits.pool,
        tuple(dimensions),
        tuple(_tenants(memory, now_s)),
        paused_s,
        _why(memory, paused_s, factor),
        factor,
    )


def _dimension(memory: Memory, limits: Limits, rule: Rule, now_s: float) -> DimensionView:
    place = DIMENSIONS.index(rule.name)
    period_s = MINUTE_S if rule.kind == CLOCK else DAY_S
    changed, learned = memory.changed[place], memory.learned[place]
    per_s = changed or (learned if limits.unknown and learned else min(learned or rule.per_s, rule.per_s))
    is_learned = learned > 0 and per_s == learned
    if rule.kind == CLOCK:
        per_s *= memory.factor[place]
        used = _sent(memory, rule, per_s, now_s) / USE_FADE_S * MINUTE_S
    elif rule.kind == FIXED:
        today = (now_s - memory.skew_s - rule.offset_s) // rule.period_s
        used = memory.tat[place] if memory.period[place] == today else 0.0
    else:
        used = max(0.0, memory.tat[place] - now_s) * per_s if memory.epoch else 0.0
    declared = None if limits.unknown else rule.per_s * period_s
    slowed = rule.kind == CLOCK and memory.factor[place] != 1
    return DimensionView(rule.name, declared, per_s * period_s, used, changed > 0, is_learned or slowed)


def _sent(memory: Memory, rule: Rule, per_s: float, now_s: float) -> float:
    """Units of a limit per minute that were sent, fading."""
    place = DIMENSIONS.index(rule.name)
    booked_to_s, before_s = memory.tat[place] - rule.burst_s, min(memory.last_s, now_s)
    before, now = (max(0.0, booked_to_s - at_s) * per_s for at_s in (before_s, now_s))
    flow = memory.flow[place]
    if now_s > before_s:
        flow = flow_after(flow, (before, now), now_s - before_s)
    return max(0.0, flow - now)


def _tenants(memory: Memory, now_s: float) -> list[TenantView]:
    found: dict[tuple[int, str, str], list[Record]] = {}
    for key, record in memory.records.items():
        if key[0] == "c":
            number, owned_by, name, _ = key[1:].split(SEPARATOR)
            found.setdefault((int(number), owned_by, name), []).append(record)
    parts: dict[tuple[int, str, str], tuple[float, list[Record]]] = {}
    for tenant, callers in sorted(found.items()):
        alive = [record for record in callers if now_s - record[CALLER.SEEN] < SILENT_S]
        own = memory.records.get(job_key(*tenant))  # None: forgotten while this caller was idle
        waits = any(record[CALLER.WAITING] for record in alive)
        flow = 0.0 if own is None else _flow(own, now_s, waits=waits)
        if alive or flow > 0:
            parts[tenant] = flow, alive
    total = sum(flow for flow, _ in parts.values())
    views = []
    for (lane, user, job), (flow, alive) in parts.items():
        own = memory.records.get(job_key(lane, user, job))
        job_weight = 1.0 if own is None else own[JOB.WEIGHT]
        priority: Priority = LANES[lane]  # type: ignore[assignment]  # LANES lists the priorities
        waiting = int(sum(record[CALLER.WAITING] for record in alive))
        share = flow / total if total > 0 else 0.0
        weight = memory.weights.get(user, 1.0)
        views.append(TenantView(user, job, priority, weight, job_weight, share, waiting, len(alive)))
    return views


def _flow(job: Record, now_s: float, *, waits: bool) -> float:
    age_s = max(0.0, now_s - job[JOB.FLOW_AT])
    return job[JOB.FLOW] * faded(age_s, FLOW_FADE_S) if waits or age_s <= STALE_S else 0.0


def _why(memory: Memory, paused_s: float, factor: float) -> str:
    if paused_s > 0 and (memory.pause_dimension >= 0 or memory.pause_dimension == UNDECLARED_DAY):
        return f"the provider's day is used up; it goes on in {paused_s:,.0f} s"
    if paused_s > 0:
        return f"the provider asked to wait (429); it goes on in {paused_s:,.1f} s"
    if factor < 0.999:
        return f"slowed down to {factor:.0%} after 429s; it comes back by itself"
    if memory.tolerated > 0:
        return "429s come at any speed; single rows wait, the pool goes on"
    return ""


def _place(name: str) -> int:
    base = name.removesuffix("_per_minute")
    if name not in CHANGEABLE:
        raise LimiterError(f"there is no limit {name!r}; known: {', '.join(CHANGEABLE)}")
    return DIMENSIONS.index(base)


def _at(now_s: float) -> datetime:
    return datetime.fromtimestamp(now_s, UTC)
