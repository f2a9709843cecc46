"""Requests in flight: how many each caller may have, where a pool limits them.

Belongs here: permits. Not here: rates (booking.py). A permit is sticky: a caller whose request ended uses it again
without asking. It comes back when its caller has no more work, has more than it is entitled to while others lack
theirs, or stays silent for `HEARTBEAT_S` (it crashed).

A share is rarely a whole number of permits, and with many callers it is less than one. So a caller is entitled to its
share rounded down, and to one more as long as its credit lasts: the permits go round.
"""

from __future__ import annotations

import math
from typing import Any

from batch_llm.limiter.fair_share import HEARTBEAT_S, Lineage, lane_shares, look_again
from batch_llm.limiter.memory import CALLER, JOB, LANE, USER
from batch_llm.limiter.step import Step

__all__ = ["give_permits"]

PERMIT_CREDIT_S = 2.0  # permit-seconds more or less than its share, at most
WHOLE = 1e-9  # floating point only


def give_permits(step: Step, line: Lineage, item: list[Any]) -> int:
    """How many requests this item's caller may have in flight; -1 where the pool does not limit them.

    Fewer than are in flight: it lets out no new one until they are fewer. Until then it holds what is in flight.
    """
    if step.most <= 0:
        return -1
    memory, caller = step.memory, line.caller
    in_flight, wanted, held = float(item[13]), min(float(item[14]), float(step.most)), caller[CALLER.PERMITS]
    entitled = _entitled(step, line)
    memory.missing -= caller[CALLER.MISSES]
    free = step.most - (memory.permits - held)
    spare = free - max(0.0, memory.missing)  # what nobody else lacks
    given = max(0.0, min(wanted, free, max(entitled, spare)))
    caller[CALLER.MISSES] = given - in_flight if given < in_flight else max(0.0, min(wanted, entitled) - given)
    memory.missing += caller[CALLER.MISSES]
    line.is_short = float(item[14]) > given
    _hold(step, line, max(in_flight, given))
    return int(given)


def _hold(step: Step, line: Lineage, permits: float) -> None:
    memory, held = step.memory, line.caller[CALLER.PERMITS]
    memory.permits += permits - held
    line.caller[CALLER.PERMITS] = permits
    if permits > 0 and held == 0:
        look_again(memory, memory.holders, line.key, step.now_s + HEARTBEAT_S)
    elif permits == 0 and held > 0:
        del memory.holders[line.key]


def _entitled(step: Step, line: Lineage) -> float:
    """The whole permits that this caller has a right to now."""
    caller, held = line.caller, line.caller[CALLER.PERMITS]
    share = step.most * _part(step, line)
    least = math.floor(share + WHOLE)
    if caller[CALLER.ACTIVE] == 0:
        caller[CALLER.CREDIT] = 0.0
    credit = max(-PERMIT_CREDIT_S, min(PERMIT_CREDIT_S, caller[CALLER.CREDIT] + (share - held) * line.unseen_s))
    caller[CALLER.CREDIT] = credit
    # who has one more keeps it until it owes; who has not must have gone without: else they would change at each call
    if credit > (-PERMIT_CREDIT_S if held > least else 0.0):
        return float(math.ceil(share - WHOLE))
    return float(least)


def _part(step: Step, line: Lineage) -> float:
    """This caller's part of the pool."""
    lane, user, job = line.lane, line.user, line.job
    users = lane[LANE.W] + (0.0 if user[USER.ACTIVE] else user[USER.WEIGHT])
    jobs = user[USER.W] + (0.0 if job[JOB.ACTIVE] else job[JOB.WEIGHT])
    callers = job[JOB.CALLERS] + (0.0 if line.caller[CALLER.ACTIVE] else 1.0)
    share = lane_shares(step.memory, line.lane_number)[line.lane_number]
    return share * (user[USER.WEIGHT] / users) * (job[JOB.WEIGHT] / jobs) / max(1.0, callers)
