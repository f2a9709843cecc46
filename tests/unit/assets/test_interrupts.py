"""Cancel from the UI reaches the loop, and nobody retries it."""

from __future__ import annotations

import asyncio
import os
import signal

import dagster as dg
import pytest

from assets.interrupts import Interrupts, run_interruptible


def test_a_body_that_is_not_interrupted_returns_its_result() -> None:
    async def body(interrupts: Interrupts) -> int:
        return 7

    assert run_interruptible(body) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_body_ends_by_itself(number: signal.Signals) -> None:
    ended: list[str] = []

    async def body(interrupts: Interrupts) -> None:
        stopped = asyncio.Event()
        with interrupts.stopping_with(stopped.set):
            os.kill(os.getpid(), number)
            await stopped.wait()
            ended.append("drained")

    with pytest.raises(dg.Failure) as caught:
        run_interruptible(body)
    assert ended == ["drained"]
    assert not caught.value.allow_retries


def test_a_signal_before_there_is_anything_to_stop_cancels() -> None:
    cleaned: list[str] = []

    async def body(interrupts: Interrupts) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            cleaned.append("closed")

    with pytest.raises(dg.Failure) as caught:
        run_interruptible(body)
    assert cleaned == ["closed"]
    assert caught.value.__cause__ is None and caught.value.__suppress_context__, "no stack of the event loop is shown"


def test_the_second_signal_does_not_wait() -> None:
    async def body(interrupts: Interrupts) -> None:
        with interrupts.stopping_with(lambda: os.kill(os.getpid(), signal.SIGTERM)):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

    with pytest.raises(dg.Failure):
        run_interruptible(body)


def test_the_handlers_of_before_are_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def body(interrupts: Interrupts) -> None:
        assert signal.getsignal(signal.SIGTERM) is not before[1]

    run_interruptible(body)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_interrupt_outside_the_loop_is_a_failure_too() -> None:
    async def body(interrupts: Interrupts) -> None:
        raise dg.DagsterExecutionInterruptedError

    with pytest.raises(dg.Failure):
        run_interruptible(body)
