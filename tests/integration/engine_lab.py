"""What goes wrong around the engine: a process killed at a given moment, a server with habits of its own.

Belongs here: staging a mishap. Not here: assertions, the lab itself (lab.py).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from aiohttp import web

from batch_llm import wiring
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.simulator import Simulator
from tests.integration.lab import FAST, Lab
from tests.local_server import served

__all__ = [
    "answered_body",
    "answers_journalled",
    "child",
    "compatible_server",
    "journalled",
    "killed_after",
    "killed_before_publishing",
    "write_input",
]

ROOT = Path(__file__).parents[2]
KILLED = """
import asyncio, os, sys
from pathlib import Path
from batch_llm.engine import publishing
from tests.integration.lab import Lab

publishing.publish_slice = lambda work, pending: os._exit(9)  # every answer is in the journal, nothing is published
lab = Lab(Path(sys.argv[1]))

async def run():
    await lab.run()

async def retry():
    async with lab.engine() as engine:
        await engine.retry()

asyncio.run({"run": run, "retry": retry}[sys.argv[2]]())
"""


async def child(program: str, *arguments: str) -> tuple[int, str, str]:
    """Run a Python program that knows the tests, while this process goes on serving: (exit code, stdout, stderr)."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, cwd=ROOT, stdout=pipe, stderr=pipe
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def killed_before_publishing(lab: Lab, command: str) -> None:
    """`run` or `retry` in a process that dies between its last answer and the first publication."""
    code, _, err = await child(KILLED, str(lab.folder), command)
    if code != 9:
        raise RuntimeError(f"the process was not killed: {code}\n{err}")


async def killed_after(lab: Lab, simulator: Simulator, answers: int, driver: str) -> int:
    """Start a program, kill it when the simulator has sent so many answers; how many calls were in flight then.

    In flight: sent and not in the journal yet, wherever the answer was at that moment.
    """
    open_before = simulator.stats()["accepted"] - answers_journalled(lab)
    process = subprocess.Popen([sys.executable, "-c", driver, str(lab.folder)], cwd=ROOT, stderr=subprocess.PIPE)
    while simulator.stats()["answered"] < answers and process.poll() is None:
        await asyncio.sleep(0.002)
    process.kill()
    _, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == -9, errors.decode()
    return int(simulator.stats()["accepted"]) - answers_journalled(lab) - open_before


def answers_journalled(lab: Lab) -> int:
    """Answers in the journals of all runs."""
    runs = wiring.open_store(lab.settings).runs
    slices = [(record.run_id, number) for record in runs.all() for number in range(len(record.slice_rows))]
    return sum(entry.kind is EntryKind.ANSWER for place in slices for entry in runs.entries(*place))


def write_input(lab: Lab, **columns: Any) -> None:
    """Write ``input.parquet`` with these columns."""
    pq.write_table(pa.table(columns), lab.folder / "input.parquet")


def journalled(lab: Lab, slice_number: int) -> list[Entry]:
    """What the journal of a slice of the latest run holds."""
    runs = wiring.open_store(lab.settings).runs
    record = runs.latest("lab")
    return [] if record is None else list(runs.entries(record.run_id, slice_number))


def answered_body(text: str, **usage: Any) -> dict[str, Any]:
    """A chat completion that says ``text`` and bills ``usage``."""
    return {
        "model": "m",
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10, **usage},
    }


@asynccontextmanager
async def compatible_server(
    lab: Lab,
    answer: Callable[[str], Awaitable[tuple[int, dict[str, Any]]]],
    *,
    bodies: list[dict[str, Any]] | None = None,
    **pool_keys: Any,
) -> AsyncIterator[str]:
    """A server that says what ``answer`` makes of a prompt: (status, body). Yields the model to name in the job.

    ``bodies`` gets what was asked; ``pool_keys``: further keys of the pool.
    """

    async def handle(request: web.Request) -> web.Response:
        asked = await request.json()
        if bodies is not None:
            bodies.append(asked)
        status, body = await answer(asked["messages"][-1]["content"])
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    async with served(app) as host:
        pool = {"name": "m", "models": ["x"], "limits": FAST, "prices": {"input": "1", "output": "2"}, **pool_keys}
        spec = {"kind": "openai_compatible", "base_url": f"http://{host}/v1", "api_key": "${env:LOCAL_KEY}"}
        providers = {"providers": {"local": {**spec, "pools": [pool]}}}
        (lab.folder / "providers.yaml").write_text(yaml.safe_dump(providers))
        yield "local/x"
