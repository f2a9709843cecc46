"""A whole batch_llm in a temporary folder: home, providers file, table, job, and a simulator to judge it by.

Belongs here: what the engine's integration tests share. Not here: assertions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from batch_llm import wiring
from batch_llm.clock import Clock
from batch_llm.config.settings import Settings
from batch_llm.engine.engine import Engine
from batch_llm.engine.events import Event, RunSummary
from batch_llm.job.load import DeclaredJob, declare
from batch_llm.simulator import Simulator, SimulatorConfig

__all__ = ["FAST", "SCHEMA", "Lab"]

SCHEMA = {"tone": {"enum": ["calm", "tense"]}, "score": "number"}
FAST = {"requests_per_minute": 600_000}


class Lab:
    """One user's machine; the simulator is an account outside, as a real provider would be."""

    def __init__(self, folder: Path) -> None:
        """``folder``: empty."""
        self.folder = folder
        self.settings = Settings(home=folder / "home", providers_path=folder / "providers.yaml", cwd=folder)
        self.events: list[Event] = []

    def table(self, rows: int, *, start: int = 0, text: str = "text {}") -> None:
        """Write ``input.parquet``: id, text, extra."""
        ids = range(start, start + rows)
        columns = {"id": list(ids), "text": [text.format(i) for i in ids], "extra": [i % 7 for i in ids]}
        pq.write_table(pa.table(columns), self.folder / "input.parquet")

    def providers(self, base_url: str, limits: Any = None, **pool: Any) -> None:
        """Write the providers file: the simulator at ``base_url``."""
        pools = [
            {
                "name": "main",
                "models": ["*"],
                "limits": limits or FAST,
                "prices": {"input": "1.00", "output": "2.00"},
                **pool,
            }
        ]
        spec = {"kind": "simulator", "base_url": base_url, "pools": pools}
        (self.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"simulator": spec}}))

    def accounts(self, **pools: dict[str, Any]) -> None:
        """Write a providers file with a pool per account, each with its ``base_url``; all have every model."""
        prices = {"input": "1.00", "output": "2.00"}
        every = [
            {"name": name, "models": ["*"], "limits": FAST, "prices": prices, **pool} for name, pool in pools.items()
        ]
        spec = {"kind": "simulator", "pools": every}
        (self.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"simulator": spec}}))

    def job(self, **changes: Any) -> DeclaredJob:
        """The job, with some keys changed."""
        data: dict[str, Any] = {
            "name": "lab",
            "input": {"table": "input.parquet", "key": ["id"]},
            "prompt": {"user": "Grade: {{ text }}"},
            "model": "simulator/small",
            "params": {"max_output_tokens": 200},
            "output": {"table": "out", "schema": SCHEMA, "keep": ["extra"]},
        }
        return declare({**data, **changes}, self.folder)

    @asynccontextmanager
    async def simulator(
        self, limits: Any = None, *, clock: Clock | None = None, **config: Any
    ) -> AsyncIterator[Simulator]:
        """A simulator on a free port, and a providers file that points to it."""
        async with Simulator(SimulatorConfig(**config), **({"clock": clock} if clock else {})) as simulator:
            self.providers(simulator.base_url, limits)
            yield simulator

    @asynccontextmanager
    async def engine(self, job: DeclaredJob | None = None, *, clock: Clock | None = None) -> AsyncIterator[Engine]:
        """An engine whose events land in `events`."""
        async with wiring.engine(self.settings, job or self.job(), listener=self.events.append, clock=clock) as engine:
            yield engine

    async def run(self, job: DeclaredJob | None = None, *, limit: int | None = None) -> RunSummary:
        """`batch-llm run`, without the terminal."""
        async with self.engine(job) as engine:
            return await engine.run(limit=limit)

    def rows(self, place: str = "out") -> list[dict[str, Any]]:
        """The output table, by id."""
        store = wiring.open_store(self.settings)
        found = [row for batch in store.warehouse.rows(place) for row in batch.to_pylist()]
        return sorted(found, key=lambda row: row["id"])
