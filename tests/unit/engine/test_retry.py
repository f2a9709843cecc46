"""The retry table: complete, and sane in its waits."""

from __future__ import annotations

from batch_llm.engine.retry import (
    BACKOFF_MAX_S,
    COURSES,
    LONGEST_WAIT_S,
    RULES,
    THROTTLED_JITTER,
    THROTTLES_IN_A_ROW,
    Action,
    Eases,
    Uses,
    Wait,
    throttled_wait_s,
    wait_s,
)
from batch_llm.errors import ErrorClass

STOPS_THE_RUN = {
    ErrorClass.AUTHENTICATION,
    ErrorClass.DAILY_QUOTA,
    ErrorClass.BUDGET,
    ErrorClass.DEADLINE,
    ErrorClass.CANCELLED,
    ErrorClass.SAMPLE,
}


def test_every_class_has_a_rule_and_every_action_a_course() -> None:
    """A new class cannot be forgotten."""
    assert set(RULES) == set(ErrorClass)
    assert set(COURSES) == set(Action)


def test_what_concerns_the_account_stops_the_run_and_what_concerns_a_row_does_not() -> None:
    assert {name for name, rule in RULES.items() if rule.stops_the_run} == STOPS_THE_RUN
    assert all(RULES[name].course.ends_as == "pending" for name in STOPS_THE_RUN)


def test_a_row_is_asked_again_exactly_where_a_wait_is_given() -> None:
    for rule in RULES.values():
        assert rule.is_asked_again == (rule.course.wait is not Wait.NEVER)
        assert rule.is_asked_again or rule.course.uses is Uses.NOTHING


def test_an_overloaded_provider_gets_fewer_calls_and_a_refused_rate_a_lower_one() -> None:
    """Two remedies for two troubles, and neither for anything else."""
    eased = {name: rule.eases for name, rule in RULES.items() if rule.eases is not Eases.NOTHING}
    assert eased == {ErrorClass.RATE_LIMITED: Eases.RATE, ErrorClass.OVERLOADED: Eases.CONCURRENCY}


def test_a_reason_is_true_of_every_row_that_ends_so() -> None:
    """A cut answer may have met the job's own cap or not: the reason, shown in place of the message, claims neither."""
    assert "cap" not in RULES[ErrorClass.TRUNCATED].reason
    assert all(rule.reason and rule.advice for rule in RULES.values())


def test_a_rate_limit_uses_up_no_attempt() -> None:
    """A storm of 429s never fails a row."""
    assert RULES[ErrorClass.RATE_LIMITED].action is Action.WAIT


def test_what_cannot_get_better_is_never_asked_again() -> None:
    """Permanent errors cost one call."""
    for error_class in (
        ErrorClass.INVALID_REQUEST,
        ErrorClass.TOO_LARGE,
        ErrorClass.REFUSED,
        ErrorClass.CONTENT_FILTER,
    ):
        assert RULES[error_class].action is Action.FAIL


def test_waits_grow_are_bounded_and_respect_the_provider() -> None:
    """Exponential with jitter, never below what the provider asked."""
    for attempt in range(1, 15):
        full_s = min(BACKOFF_MAX_S, 2 ** (attempt - 1))
        assert all(full_s / 2 <= wait_s(attempt, None) <= full_s for _ in range(20))
    assert wait_s(1, 33.0) == 33.0


def test_a_throttled_row_waits_as_long_as_it_was_told_and_no_longer_than_is_sane() -> None:
    """Its own Retry-After, a little spread; without one the limiter alone decides."""
    waits_s = [throttled_wait_s(1, 20.0) for _ in range(50)]
    assert all(20.0 <= one <= 20.0 * (1 + THROTTLED_JITTER) for one in waits_s) and len(set(waits_s)) > 1
    assert throttled_wait_s(1, 86_400.0) == LONGEST_WAIT_S
    assert throttled_wait_s(THROTTLES_IN_A_ROW, None) == 0.0


def test_a_row_that_is_throttled_for_ever_is_not_asked_at_full_speed_for_ever() -> None:
    for more in range(1, 3000, 7):
        assert 0.5 <= throttled_wait_s(THROTTLES_IN_A_ROW + more, None) <= BACKOFF_MAX_S
    assert throttled_wait_s(5000, None) >= BACKOFF_MAX_S / 2
