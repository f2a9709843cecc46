"""What follows from each class of failure: the one table, and how long to wait.

Belongs here: the retry table and the back-off. Not here: telling the classes apart (providers, answers.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from batch_llm.errors import ErrorClass

__all__ = ["RULES", "Action", "Rule", "throttled_wait_s", "wait_s"]

BACKOFF_BASE_S = 1.0  # before the second attempt; doubles
BACKOFF_MAX_S = 60.0
BACKOFF_DOUBLINGS = 6  # then it is at its longest
THROTTLES_IN_A_ROW = 50  # 429s of one row before it backs off by itself: by then the pool's pause is not what it needs
THROTTLED_JITTER = 0.1  # rows that were told the same do not come back together
LONGEST_WAIT_S = 300.0  # whatever a provider asks of a single row; a longer outage is met by the next attempts


class Action(StrEnum):
    """What the engine does with a row whose attempt ended so."""

    AGAIN = "again"  # wait, then try again; one of `retries.attempts` is used up
    WAIT = "wait"  # as long as the provider asked of this row, then for the limiter; no attempt is used up
    RE_ASK = "re-ask"  # a paid answer was not good enough: one of `retries.re_asks` is used up
    FAIL = "fail"  # the row fails at once


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    action: Action
    reason: str


RULES: dict[ErrorClass, Rule] = {
    ErrorClass.RATE_LIMITED: Rule(Action.WAIT, "the limit, not the row, was at fault"),
    ErrorClass.OVERLOADED: Rule(Action.AGAIN, "the provider is busy for a moment"),
    ErrorClass.SERVER_ERROR: Rule(Action.AGAIN, "the provider failed, the next call may not"),
    ErrorClass.TIMEOUT: Rule(Action.AGAIN, "a hung call says nothing about the row"),
    ErrorClass.CONNECTION: Rule(Action.AGAIN, "the network failed, the next call may not"),
    ErrorClass.MALFORMED: Rule(Action.AGAIN, "a garbled answer is rarely garbled twice"),
    ErrorClass.EMPTY: Rule(Action.AGAIN, "an empty answer is rarely empty twice"),
    ErrorClass.TRUNCATED: Rule(Action.RE_ASK, "cut short below our own cap (at the cap it fails at once)"),
    ErrorClass.SCHEMA_MISMATCH: Rule(Action.RE_ASK, "told what was wrong, the model may get it right"),
    ErrorClass.REFUSED: Rule(Action.FAIL, "the model will refuse again"),
    ErrorClass.CONTENT_FILTER: Rule(Action.FAIL, "the filter will strike again"),
    ErrorClass.INVALID_REQUEST: Rule(Action.FAIL, "the same request stays invalid"),
    ErrorClass.TOO_LARGE: Rule(Action.FAIL, "the row does not shrink by waiting"),
    ErrorClass.INTERNAL: Rule(Action.FAIL, "a defect of ours must not stop the other rows"),
    ErrorClass.TEMPLATE: Rule(Action.FAIL, "the prompt cannot be made from this row"),
}


def wait_s(attempt: int, retry_after_s: float | None) -> float:
    """Seconds before the attempt after ``attempt`` (starting at 1): exponential, jittered, at least what was asked."""
    backoff = min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(attempt - 1, BACKOFF_DOUBLINGS))
    jittered = backoff * random.uniform(0.5, 1.0)
    return max(jittered, min(retry_after_s or 0.0, LONGEST_WAIT_S))


def throttled_wait_s(throttles: int, retry_after_s: float | None) -> float:
    """Seconds before a row is sent again after its ``throttles``-th 429 in a row, starting at 1.

    What was asked of it. Without that, at once: whether the whole pool waits is the limiter's to say. After many it
    backs off as well, so that a provider that rejects for ever is not asked at full speed for ever.
    """
    asked_s = min(LONGEST_WAIT_S, (retry_after_s or 0.0) * random.uniform(1.0, 1.0 + THROTTLED_JITTER))
    return asked_s if throttles <= THROTTLES_IN_A_ROW else wait_s(throttles - THROTTLES_IN_A_ROW, asked_s)
