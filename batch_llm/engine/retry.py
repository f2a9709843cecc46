"""What follows from each class of failure: the one table, and how long to wait.

Belongs here: the retry table and the back-off. Not here: telling the classes apart (providers, answers.py), whether an
answer that was cut short is worth another try (caps.py), the table as people read it (failures_page.py).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from batch_llm.errors import ErrorClass

__all__ = ["COURSES", "RULES", "Action", "Course", "Eases", "Rule", "Uses", "Wait", "throttled_wait_s", "wait_s"]

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
    FAIL = "fail"  # the row fails at once, the others go on
    PARK = "park"  # the run stops until what is used up is there again
    STOP = "stop"  # the run stops until somebody does something


class Uses(StrEnum):
    """What a try costs the row, beside what the provider bills."""

    NOTHING = "nothing"
    ATTEMPT = "retries.attempts"
    RE_ASK = "retries.re_asks"


class Wait(StrEnum):
    """How long a row waits before it is asked again."""

    NEVER = "never"  # it is not asked again
    NOT_AT_ALL = "not at all"
    AS_ASKED = "as asked"  # `throttled_wait_s`
    BACK_OFF = "back-off"  # `wait_s`


class Eases(StrEnum):
    """What the engine does for the provider, beside what it does with the row."""

    NOTHING = "nothing"
    RATE = "rate"  # the pool pauses, then goes on more slowly (limiter/throttling.py)
    CONCURRENCY = "concurrency"  # fewer calls at once; the rate stays


@dataclass(frozen=True, slots=True)
class Course:
    """What an action means for the row."""

    uses: Uses
    wait: Wait
    ends_as: str  # llm_status of the row when nothing more is to be tried


COURSES: dict[Action, Course] = {
    Action.AGAIN: Course(Uses.ATTEMPT, Wait.BACK_OFF, "failed"),
    Action.WAIT: Course(Uses.NOTHING, Wait.AS_ASKED, "pending"),
    Action.RE_ASK: Course(Uses.RE_ASK, Wait.NOT_AT_ALL, "failed"),
    Action.FAIL: Course(Uses.NOTHING, Wait.NEVER, "failed"),
    Action.PARK: Course(Uses.NOTHING, Wait.NEVER, "pending"),
    Action.STOP: Course(Uses.NOTHING, Wait.NEVER, "pending"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    action: Action
    reason: str  # true of every row that ends so; shown where the provider's own words are not
    advice: str = "transient: asking again may do"  # what a person can do about rows that ended so
    eases: Eases = Eases.NOTHING
    may_be_outage: bool = False  # whichever row is asked: where nobody is answered, it uses up nothing (window.py)

    @property
    def is_asked_again(self) -> bool:
        """Whether the engine asks such a row again by itself, in this run."""
        return self.action in (Action.AGAIN, Action.WAIT, Action.RE_ASK)

    @property
    def stops_the_run(self) -> bool:
        """Whether nothing more is handed out; the same command goes on."""
        return self.action in (Action.PARK, Action.STOP)

    @property
    def course(self) -> Course:
        """What that means for the row."""
        return COURSES[self.action]


RULES: dict[ErrorClass, Rule] = {
    ErrorClass.RATE_LIMITED: Rule(Action.WAIT, "the limit, not the row, was at fault", eases=Eases.RATE),
    ErrorClass.OVERLOADED: Rule(
        Action.AGAIN, "the provider is busy for a moment", eases=Eases.CONCURRENCY, may_be_outage=True
    ),
    ErrorClass.SERVER_ERROR: Rule(Action.AGAIN, "the provider failed, the next call may not", may_be_outage=True),
    ErrorClass.TIMEOUT: Rule(Action.AGAIN, "a hung call says nothing about the row", may_be_outage=True),
    ErrorClass.CONNECTION: Rule(Action.AGAIN, "the network failed, the next call may not", may_be_outage=True),
    ErrorClass.MALFORMED: Rule(Action.AGAIN, "a garbled answer is rarely garbled twice"),
    ErrorClass.EMPTY: Rule(Action.AGAIN, "an empty answer is rarely empty twice"),
    ErrorClass.TRUNCATED: Rule(
        Action.RE_ASK,  # unless the cap is the job's own: engine/caps.py
        "the answer was cut short, and half an answer is none",
        "longer than params.max_output_tokens, or than the model writes. A changed number, or auto, is another "
        "question: every row is asked again, the good ones too (`plan` shows it). To ask only these, give them a job "
        "of their own (input.where)",
    ),
    ErrorClass.SCHEMA_MISMATCH: Rule(
        Action.RE_ASK,
        "told what was wrong, the model may get it right",
        "say the answer's shape in the prompt, or loosen output.schema",
    ),
    ErrorClass.REFUSED: Rule(
        Action.FAIL, "the model will refuse again", "the model refuses; another wording or model may pass"
    ),
    ErrorClass.CONTENT_FILTER: Rule(
        Action.FAIL,
        "the filter will strike again",
        "the provider's filter stopped them; another wording or model may pass",
    ),
    ErrorClass.INVALID_REQUEST: Rule(
        Action.FAIL, "the same request stays invalid", "the provider refuses the request as it is; read the message"
    ),
    ErrorClass.TOO_LARGE: Rule(
        Action.FAIL,
        "the row does not shrink by waiting",
        "the rows do not fit the model or the limit; shorten the prompt or filter them out (input.where)",
    ),
    ErrorClass.TEMPLATE: Rule(
        Action.FAIL,
        "the prompt cannot be made from this row",
        "the prompt or the image cannot be made from these rows; change them or filter them out (input.where)",
    ),
    ErrorClass.INTERNAL: Rule(
        Action.FAIL, "a defect of ours must not stop the other rows", "a defect of batch_llm; please report the message"
    ),
    ErrorClass.DAILY_QUOTA: Rule(
        Action.PARK, "the account's day or credit is used up", "run it again when there is quota or credit again"
    ),
    ErrorClass.AUTHENTICATION: Rule(
        Action.STOP,
        "no row can be asked with this key, or of this model",
        "correct the model, or the provider's api_key or base_url, then run it again",
    ),
    ErrorClass.BUDGET: Rule(
        Action.STOP, "the next call could cost more than what is left", "raise budget_usd, then run it again"
    ),
    ErrorClass.DEADLINE: Rule(
        Action.STOP, "the time that the job gave itself is over", "move the deadline, then run it again"
    ),
    ErrorClass.CANCELLED: Rule(Action.STOP, "somebody asked the run to stop", "run it again"),
    ErrorClass.SAMPLE: Rule(Action.STOP, "only so many rows were to be asked", "run it again without --limit"),
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
