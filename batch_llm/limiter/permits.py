"""Requests in flight: how many each caller may have, where a pool limits them.

Belongs here: permits. Not here: rates (booking.py). A permit is sticky: a caller whose request ended uses it again
without asking. It comes back when its caller has no more work, has more than its share while others go without, or
stays silent for `HEARTBEAT_S` (it crashed).
"""

from __future__ import annotations

import math
from typing import Any

from batch_llm.limiter.fair_share import HEARTBEAT_S, Lineage, lane_shares, look_again
from batch_llm.limiter.memory import CALLER, JOB, LANE, USER
from batch_llm.limiter.step import Step

__all__ = ["give_permits"]

STARVED_S = 1.0  # so long after somebody went without, nobody may have more than its share


def give_permits(step: Step, line: Lineage, item: list[Any]) -> int:
    """How many requests this item's caller may have in flight; -1 where the pool does not limit them."""
    if step.most <= 0:
        return -1
    memory, now_s = step.memory, step.now_s
    in_flight, wanted = float(item[13]), min(float(item[14]), float(step.most))
    held = line.caller[CALLER.PERMITS]
    free = step.most - (memory.permits - held)
    share = _share(step, line)
    given = min(wanted, free)
    if given < wanted and given < share:
        memory.starved_s = now_s
    elif now_s - memory.starved_s < STARVED_S:
        given = min(given, share)
    given = max(in_flight, given, 0.0)
    memory.permits += given - held
    line.caller[CALLER.PERMITS] = given
    if given > 0 and held == 0:
        look_again(memory, memory.holders, line.key, now_s + HEARTBEAT_S)
    elif given == 0 and held > 0:
        del memory.holders[line.key]
    return int(given)


def _share(step: Step, line: Lineage) -> float:
    """The fair number of permits of this caller, at least one."""
    lane, user, job = line.lane, line.user, line.job
    users = lane[LANE.W] + (0.0 if user[USER.ACTIVE] else user[USER.WEIGHT])
    jobs = user[USER.W] + (0.0 if job[JOB.ACTIVE] else job[JOB.WEIGHT])
    callers = job[JOB.CALLERS] + (0.0 if line.caller[CALLER.ACTIVE] else 1.0)
    share = lane_shares(step.memory, line.lane_number)[line.lane_number]
    part = share * (user[USER.WEIGHT] / users) * (job[JOB.WEIGHT] / jobs) / max(1.0, callers)
    return float(max(1, math.floor(step.most * part + 1e-9)))
