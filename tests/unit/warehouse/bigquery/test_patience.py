"""How long a failing call is tried again."""

from __future__ import annotations

import pytest
from google.api_core import exceptions as api

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery.failures import Failure
from batch_llm.warehouse.bigquery.patience import Patience


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses_s: list[float] = []

    def patience(self, limit_s: float = 60.0) -> Patience:
        return Patience(limit_s, monotonic=lambda: self.now_s, sleep=self.sleep)

    def sleep(self, delay_s: float) -> None:
        self.pauses_s.append(delay_s)
        self.now_s += delay_s


def failing(times: int, error: Exception) -> tuple[list[int], object]:
    calls: list[int] = []

    def send(answer: str) -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return answer

    return calls, send


def test_a_passing_failure_is_tried_again_with_growing_pauses() -> None:
    time = Time()
    calls, send = failing(4, api.ServiceUnavailable("s"))
    assert time.patience()(send)("yes") == "yes"  # type: ignore[arg-type]
    assert len(calls) == 5
    assert all(pause_s * 0.5 <= next_s for pause_s, next_s in zip(time.pauses_s, time.pauses_s[1:], strict=False))
    assert time.pauses_s[-1] > time.pauses_s[0] * 2


def test_another_failure_is_raised_at_once() -> None:
    time = Time()
    calls, send = failing(9, api.NotFound("n"))
    with pytest.raises(api.NotFound):
        time.patience()(send)("yes")  # type: ignore[arg-type]
    assert (len(calls), time.pauses_s) == (1, [])


def test_it_ends_when_it_has_been_long_enough() -> None:
    """The last try is at the end of the limit, not a long pause later."""
    time = Time()
    _, send = failing(10**6, api.BadGateway("b"))
    with pytest.raises(api.BadGateway):
        time.patience(60.0)(send)("yes")  # type: ignore[arg-type]
    assert time.now_s == pytest.approx(160.0)


def test_a_wait_that_is_over_says_so() -> None:
    time = Time()
    wait = time.patience(5.0).begin()
    failure = Failure.of(api.BadGateway("b"))
    while time.now_s < 105.0:
        wait.pause_or_raise("publish", failure)
    with pytest.raises(WarehouseError, match=r"publish: still failing after 5 s: HTTP 502 .*run the job again"):
        wait.pause_or_raise("publish", failure)


def test_work_that_takes_long_uses_up_no_patience() -> None:
    """Only failing does: the time counts from the first failure."""
    time = Time()
    wait = time.patience(5.0).begin()
    time.now_s += 720.0
    wait.pause_or_raise("promote", Failure.of(api.BadGateway("b")))
    assert time.now_s > 820.0
