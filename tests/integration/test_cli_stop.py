"""Stopping a run from the keyboard, and the panel: with real signals and a real terminal."""

from __future__ import annotations

import asyncio
import json
import re
import signal

import pytest

from batch_llm.simulator import Simulator
from tests.integration.cli_lab import CommandLine, ended
from tests.integration.lab import Lab

ROWS = 200
SLOW = {"requests_per_minute": 1500}  # 8 s for all rows: whatever is done to the run falls into its middle


@pytest.fixture
def cli(lab: Lab) -> CommandLine:
    lab.table(ROWS)
    return CommandLine(lab)


async def answered(simulator: Simulator, count: int) -> None:
    """Wait until the simulator has answered so often."""
    while simulator.stats()["answered"] < count:
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_one_signal_drains_and_the_same_command_goes_on(lab: Lab, cli: CommandLine, number: int) -> None:
    """Exit 3; nothing that was paid is lost and nothing is paid twice."""
    job = cli.job_file()
    async with lab.simulator(SLOW, latency_median_s=0.2) as simulator:
        process = await cli.start("run", job, "--json")
        await answered(simulator, 20)
        process.send_signal(number)
        stopped = await ended(process)
        assert stopped.code == 3, stopped.err
        assert "draining" in stopped.err
        assert "in flight; Ctrl-C again to stop at once" in stopped.err
        assert stopped.json["stopped"] == "cancelled"
        assert stopped.json["ok"] + stopped.json["pending"] == ROWS
        assert stopped.json["pending"] > 0
        assert simulator.stats()["answered"] == stopped.json["ok"]
        done = await cli.run("run", job, "--json")
        assert (done.code, done.json["ok"], done.json["run_id"]) == (0, ROWS, stopped.json["run_id"])
        assert simulator.stats()["answered"] == ROWS


async def test_a_second_signal_stops_at_once(lab: Lab, cli: CommandLine) -> None:
    """Exit 3 without waiting for what hangs; paid twice is at most what was in flight."""
    job = cli.job_file()
    async with lab.simulator(SLOW, latency_median_s=0.1) as simulator:
        process = await cli.start("run", job)
        await answered(simulator, 20)
        simulator.configure(latency_median_s=600.0)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while b"draining" not in (line := await process.stderr.readline()):
            assert line, "it ended without draining"
        in_flight = simulator.stats()["in_flight"]
        assert in_flight > 0
        process.send_signal(signal.SIGINT)
        stopped = await ended(process)
        assert stopped.code == 3
        assert "stopped at once" in stopped.err
        assert "Traceback" not in stopped.err
        simulator.configure(latency_median_s=0.0)
        done = await cli.run("run", job, "--json")
        assert (done.code, done.json["ok"]) == (0, ROWS)
        assert simulator.stats()["answered"] <= ROWS + in_flight


async def test_a_pipe_gets_plain_text(lab: Lab, cli: CommandLine) -> None:
    async with lab.simulator():
        run = await cli.run("run", cli.job_file())
    assert run.code == 0
    assert "\x1b" not in run.out + run.err


async def test_a_terminal_gets_a_panel_and_stdout_stays_json(lab: Lab, cli: CommandLine) -> None:
    """Rows, rates against the limits, cost of budget, what holds it back; the terminal is given back clean."""
    job = cli.job_file(budget_usd=5)
    async with lab.simulator({"requests_per_minute": 6000, "tokens_per_minute": 600_000}, latency_median_s=0.05):
        session = await cli.in_terminal("run", job, "--json", "--yes")
        await session.until("of 6,000 per minute")
        run = await session.ended()
    assert (run.code, run.json["ok"]) == (0, ROWS)
    for part in (f"/{ROWS}", "of 600,000 per minute", "of $5.00", "held by", "in flight", "left"):
        assert part in run.err
    assert run.err.count("\x1b[?25l") == run.err.count("\x1b[?25h")


async def test_a_stop_shows_in_the_panel(lab: Lab, cli: CommandLine) -> None:
    async with lab.simulator(SLOW):
        session = await cli.in_terminal("run", cli.job_file(), "--json")
        await session.until("of 1,500 per minute")
        session.process.send_signal(signal.SIGINT)
        run = await session.ended()
    assert run.code == 3
    assert "draining" in run.err
    assert json.loads(run.out)["stopped"] == "cancelled"


async def test_a_terminal_that_is_closed_drains(lab: Lab, cli: CommandLine) -> None:
    """Nothing can be shown any more; what was in flight is stored, and the rest is pending."""
    job = cli.job_file()
    async with lab.simulator(SLOW, latency_median_s=0.2) as simulator:
        session = await cli.in_terminal("run", job, "--json")
        await session.until("of 1,500 per minute")
        await answered(simulator, 20)
        session.hang_up()
        run = await session.ended()
        assert (run.code, run.json["stopped"]) == (3, "cancelled")
        assert simulator.stats()["answered"] == run.json["ok"] < ROWS


@pytest.mark.parametrize(("typed", "code"), [("n\r", 3), ("y\r", 0)])
async def test_a_terminal_is_asked_before_money_is_spent(lab: Lab, cli: CommandLine, typed: str, code: int) -> None:
    async with lab.simulator() as simulator:
        session = await cli.in_terminal("run", cli.job_file(), "--confirm-above", "0.0001", "--json")
        await session.until("Go on?")
        assert simulator.stats()["accepted"] == 0
        session.type(typed)
        run = await session.ended()
        assert simulator.stats()["accepted"] == (0 if code else ROWS)
    assert run.code == code
    assert re.search(rf"asking {ROWS} rows; this costs up to \$0\.\d+\. Go on\?", run.err)
