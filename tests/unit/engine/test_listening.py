"""A listener that raises: told in the log once, and nothing of the run hangs on it."""

from __future__ import annotations

import asyncio

import pytest

from batch_llm.engine.events import Event, Stalled, Waiting
from batch_llm.engine.listening import Guard

FIRST, SECOND, THIRD = Waiting("a"), Stalled("b", 1.0), Waiting("c")


class Deaf:
    """Raises at some events."""

    def __init__(self, error: BaseException, *at: Event) -> None:
        self.error = error
        self.at = at
        self.heard: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(event)
        if event in self.at:
            raise self.error


def test_a_listener_that_raises_is_logged_once_and_goes_on_hearing(caplog: pytest.LogCaptureFixture) -> None:
    listener = Deaf(BrokenPipeError("gone"), FIRST, SECOND)
    guard = Guard(listener)
    for event in (FIRST, SECOND, THIRD):
        guard(event)
    assert listener.heard == [FIRST, SECOND, THIRD]
    (record,) = caplog.records
    assert record.exc_info is not None and "the run goes on" in record.message


def test_a_guest_that_raises_hears_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    listener = Deaf(ValueError("a defect"), SECOND)
    guard = Guard(listener, is_guest=True)
    for event in (FIRST, SECOND, THIRD):
        guard(event)
    assert listener.heard == [FIRST, SECOND]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_ends_the_run_goes_through(error: BaseException) -> None:
    with pytest.raises(type(error)):
        Guard(Deaf(error, FIRST))(FIRST)
