"""Ctrl-C once, Ctrl-C twice, SIGTERM, a terminal that closes: with real signals."""

import asyncio
import os
import signal

import pytest

from batch_llm.cli.interrupts import Interrupts


class Draining:
    """What can drain; ends the wait of the test when told to."""

    def __init__(self) -> None:
        self.stops = 0
        self.told = asyncio.Event()

    def stop(self) -> None:
        self.stops += 1
        self.told.set()


def signalled(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_drains(number: int) -> None:
    with Interrupts() as interrupts:
        engine = interrupts.engine = Draining()
        signalled(number)
        await engine.told.wait()
    assert engine.stops == 1


async def test_the_second_signal_stops_at_once() -> None:
    engine = Draining()

    async def run() -> None:
        with Interrupts() as interrupts:
            interrupts.engine = engine
            signalled(signal.SIGINT)
            await engine.told.wait()
            signalled(signal.SIGTERM)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(run())
    assert engine.stops == 1


async def test_a_terminal_that_closes_says_so_more_than_once() -> None:
    """The shell tells its jobs, then the kernel does: neither is in a hurry. Who closes it may not press anything."""
    with Interrupts() as interrupts:
        engine = interrupts.engine = Draining()
        for _ in range(3):
            signalled(signal.SIGHUP)
            await engine.told.wait()
            await asyncio.sleep(0)
    assert engine.stops == 1


async def test_a_command_that_shall_outlive_its_terminal_does() -> None:
    """Started by nohup, it ignores the signal, and goes on ignoring it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            interrupts.engine = Draining()
            signalled(signal.SIGHUP)
            await asyncio.sleep(0)
            assert interrupts.engine.stops == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_before_there_is_an_engine_the_first_signal_ends_the_wait() -> None:
    """Another process has the turn: nothing is in flight, so there is nothing to drain."""

    async def run() -> None:
        with Interrupts():
            signalled(signal.SIGINT)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(run())


async def test_the_earlier_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
