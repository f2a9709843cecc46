"""`batch-llm limits` beside real runs of two users in one home: it sees them, and changes what they may send."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import batch_llm
from batch_llm.job.load import dump_job
from batch_llm.simulator import Simulator
from tests.integration.cli_lab import BATCH_LLM, WIDE, CommandLine, TerminalSession, ended
from tests.integration.lab import Lab

POOL = "simulator:main"
LIMIT = {"requests_per_minute": 1200}
HALF = {"requests_per_minute": 600}

Tenants = dict[str, dict[str, Any]]
Runs = list[asyncio.subprocess.Process]


@asynccontextmanager
async def two_runs(lab: Lab, cli: CommandLine) -> AsyncIterator[tuple[Simulator, Runs]]:
    """Alice and Bob each run a job that is longer than the test; stopped by a signal, with what they have kept."""
    lab.table(5_000)
    users = ("alice", "bob")
    for user in users:
        job = lab.job(name=f"of_{user}", user=user, budget_usd=5, output={"table": f"out_{user}"}).job
        (lab.folder / f"{user}.yaml").write_text(dump_job(job))
    async with lab.simulator(LIMIT, **LIMIT) as simulator:
        runs = [await cli.start("run", f"{user}.yaml", "--yes") for user in users]
        try:
            yield simulator, runs
        finally:
            for run in runs:
                if run.returncode is None:
                    run.send_signal(signal.SIGINT)
            said = [await ended(run) for run in runs]
        assert [one.code for one in said] == [3, 3], [one.err for one in said]


async def seen(cli: CommandLine, runs: Runs, enough: Callable[[Tenants], bool]) -> dict[str, Any]:
    """Look until the pool's tenants (by user) are as wanted."""
    while True:
        assert [run.returncode for run in runs] == [None] * len(runs)
        said = await cli.run("limits", POOL, "--json")
        assert said.code == 0, said.err
        if enough({tenant["user"]: tenant for tenant in said.json["pools"][0]["tenants"]}):
            found: dict[str, Any] = said.json
            return found


async def answered(simulator: Simulator, more: int) -> None:
    """Wait for so many further answers."""
    wanted = simulator.stats()["answered"] + more
    while simulator.stats()["answered"] < wanted:
        await asyncio.sleep(0.01)


async def test_two_runs_of_one_home_are_seen_and_a_change_reaches_both(lab: Lab) -> None:
    """Equal parts of one limit; half the limit within a second of the command, judged by the provider; weights."""
    cli = CommandLine(lab)
    async with two_runs(lab, cli) as (simulator, runs):
        found = await seen(
            cli,
            runs,
            lambda tenants: (
                len(tenants) == 2 and all(0.35 < one["share"] < 0.65 and one["waiting"] for one in tenants.values())
            ),
        )
        (limit,) = found["pools"][0]["limits"]
        assert (limit["name"], limit["declared"], limit["in_force"]) == ("requests_per_minute", 1200, 1200)
        tenants = found["pools"][0]["tenants"]
        assert [(one["user"], one["job"], one["processes"]) for one in tenants] == [
            ("alice", "of_alice", 1), ("bob", "of_bob", 1),
        ]  # fmt: skip
        assert found["where"] == "the home's private Redis"
        scopes = {scope["scope"].partition("-")[0]: scope["cap_usd"] for scope in found["budgets"]}
        assert scopes["run:of_alice"] == scopes["run:of_bob"] == 5

        assert (await cli.run("limits", "set", POOL, "requests_per_minute=600", "--user", "alice=3")).code == 0
        await asyncio.sleep(1.0)  # what is promised
        simulator.configure(**HALF)  # the provider follows: whoever is still as fast as before is refused
        await answered(simulator, 60)
        assert simulator.stats()["rejected"] == {}
        found = await seen(cli, runs, lambda tenants: tenants["alice"]["share"] > 0.7)
        (limit,) = found["pools"][0]["limits"]
        assert (limit["in_force"], limit["changed_by_hand"]) == (600, True)
        assert {one["user"]: one["user_weight"] for one in found["pools"][0]["tenants"]} == {"alice": 3, "bob": 1}


async def test_watching_shows_a_change_until_ctrl_c(lab: Lab) -> None:
    """Again every second: a change made elsewhere appears. Ctrl-C is how one ends it, so the exit code is 0."""
    lab.providers("http://127.0.0.1:1/v1", LIMIT)
    cli = CommandLine(lab)
    watching = await cli.start("limits", "--watch", "--json")
    assert watching.stdout is not None
    first = json.loads(await watching.stdout.readline())
    assert (first["where"], first["pools"][0]["limits"][0]["in_force"]) == (None, 1200)
    # a user of the private Redis, as a run would be, so that there is something to see
    job = lab.job(budget_usd=5).job
    (lab.folder / "lab.yaml").write_text(dump_job(job))
    lab.table(10)
    run = await cli.start("run", "lab.yaml", "--yes")
    assert (await cli.run("limits", "set", POOL, "requests_per_minute=600")).code == 0
    while json.loads(await watching.stdout.readline())["pools"][0]["limits"][0]["in_force"] != 600:
        pass
    run.send_signal(signal.SIGINT)
    await ended(run)
    watching.send_signal(signal.SIGINT)
    assert (await ended(watching)).code == 0


async def test_a_terminal_shows_it_live_and_is_left_clean(lab: Lab) -> None:
    """Colours and a page that is drawn in place, only there; the cursor comes back."""
    lab.providers("http://127.0.0.1:1/v1", LIMIT)
    cli = CommandLine(lab)
    outer, inner = pty.openpty()
    termios.tcsetwinsize(inner, WIDE)
    process = await asyncio.create_subprocess_exec(
        *BATCH_LLM, "limits", "--watch", cwd=lab.folder, env=cli.environment, stdin=inner, stdout=inner, stderr=inner
    )
    os.close(inner)
    session = TerminalSession(process, outer)
    await session.until("1,200")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    await session.until("\x1b[?25h")
    os.close(outer)
    assert "Nobody is calling" in session.shown and "Traceback" not in session.shown


async def test_without_a_terminal_there_are_no_colours(lab: Lab) -> None:
    lab.providers("http://127.0.0.1:1/v1", LIMIT)
    said = await CommandLine(lab, {"FORCE_COLOR": "1"}).run("limits")
    assert (said.code, said.err) == (0, "")
    assert "requests per minute  1,200" in said.out and "\x1b" not in said.out


async def test_caps_on_money_hold_for_runs_that_begin_later(lab: Lab) -> None:
    """A cap of the day that is spent already stops a run before its first call; the change needs no run to live."""
    lab.table(20)
    cli = CommandLine(lab)
    job = cli.job_file(user="alice")
    async with lab.simulator() as simulator:
        said = await cli.run("limits", "budget", "--user", "alice=0.0001", "--json")
        assert (said.code, said.json["budgets"][0]["cap_usd"]) == (0, 0.0001)
        stopped = await cli.run("run", job, "--yes", "--json")
        assert (stopped.code, stopped.json["stopped"], stopped.json["ok"]) == (3, "budget", 0)
        assert simulator.stats()["accepted"] == 0
        assert (await cli.run("limits", "budget", "--user", "alice=none")).code == 0
        assert (await cli.run("run", job, "--yes", "--json")).json["ok"] == 20


def test_the_python_door_gives_the_pools_as_objects(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody calls, what is declared; and nothing is started."""
    lab.providers("http://127.0.0.1:1/v1", LIMIT)
    monkeypatch.setenv("BATCH_LLM_HOME", str(lab.settings.home))
    monkeypatch.setenv("BATCH_LLM_PROVIDERS", str(lab.settings.providers_path))
    (pool,) = batch_llm.limits()
    assert pool.pool == POOL
    assert [(one.name, one.declared, one.in_force) for one in pool.dimensions] == [("requests", 1200, 1200)]
    assert not lab.settings.home.exists()
