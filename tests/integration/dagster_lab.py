"""A whole Dagster code location in a temporary folder, with a simulated provider account to judge it by.

Belongs here: what the Dagster tests share. Not here: assertions.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any, Self

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from batch_llm.config.settings import Settings
from batch_llm.journal.base import RunRecord
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.wiring import Store, open_store
from definitions import build_defs
from resources.settings import SettingsResource

__all__ = ["Account", "CodeLocation"]

PRICES = {"input": "1.00", "output": "2.00"}
SCHEMA = {"tone": {"enum": ["calm", "tense"]}, "score": "number"}


class Account:
    """A provider account in a thread of its own: asset bodies run their own event loops."""

    def __init__(self, **config: Any) -> None:
        self._config = SimulatorConfig(**config)
        self._opened = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.base_url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._opened.wait(30)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(30)

    def stats(self) -> dict[str, Any]:
        """What the account saw."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/stats", timeout=10) as answer:
            return dict(json.load(answer))

    def configure(self, **changes: Any) -> None:
        """Change settings from the next request on."""
        self._loop.call_soon_threadsafe(lambda: self._simulator.configure(**changes))

    def _serve(self) -> None:
        self._loop.run_until_complete(self._live())
        self._loop.close()

    async def _live(self) -> None:
        self._closing = asyncio.Event()
        async with Simulator(self._config) as self._simulator:
            self.base_url = self._simulator.base_url
            self._opened.set()
            await self._closing.wait()


class CodeLocation:
    """A checkout's worth of files in an empty folder: jobs, tables, a providers file, a home."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.base_url = base_url
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        self.limits({"requests_per_minute": 600_000})

    def limits(self, limits: dict[str, Any], prices: dict[str, str] | None = PRICES) -> None:
        """Write the providers file. ``prices`` None: nobody knows them."""
        pool: dict[str, Any] = {"name": "main", "models": ["*"], "limits": limits}
        if prices is not None:
            pool["prices"] = dict(prices)
        spec = {"kind": "simulator", "base_url": self.base_url, "pools": [pool]}
        (self.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"simulator": spec}}))

    def table(self, name: str, rows: int, *, start: int = 0) -> Path:
        """Write a Parquet file into the jobs folder: id, text."""
        ids = list(range(start, start + rows))
        path = self.jobs / name
        pq.write_table(pa.table({"id": ids, "text": [f"text {name} {i}" for i in ids]}), path)
        return path

    def job(self, name: str = "tone", **changes: Any) -> Path:
        """Write a job file."""
        data: dict[str, Any] = {
            "name": name,
            "input": {"table": "input.parquet", "key": ["id"]},
            "prompt": {"user": "Grade: {{ text }}"},
            "model": "simulator/small",
            "params": {"max_output_tokens": 200},
            "output": {"table": f"{name}_out", "schema": SCHEMA},
            "slices": {"rows": 10},
            "user": "alice",
        }
        path = self.jobs / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in (data | changes).items() if value is not None}))
        return path

    def definitions(self, **resources: Any) -> dg.Definitions:
        """The definitions, as `definitions.py` builds them."""
        return build_defs(
            job_files=sorted(self.jobs.glob("*.yaml")), root=self.folder, settings=self.settings_resource, **resources
        )

    @property
    def settings_resource(self) -> SettingsResource:
        """Where this code location works."""
        return SettingsResource(
            root=str(self.folder), home=str(self.folder / "home"), providers=str(self.folder / "providers.yaml")
        )

    @property
    def settings(self) -> Settings:
        """The same, for the library."""
        return self.settings_resource.create()

    @property
    def store(self) -> Store:
        """What is stored."""
        return open_store(self.settings)

    def record(self, job: str = "tone") -> RunRecord:
        """The job's newest run."""
        record = self.store.runs.latest(job)
        assert record is not None
        return record

    def rows(self, place: str) -> list[dict[str, Any]]:
        """A table's rows, by id."""
        found = [row for batch in self.store.warehouse.rows(place) for row in batch.to_pylist()]
        return sorted(found, key=lambda row: row["id"])

    def execute(
        self, instance: dg.DagsterInstance, job: str, *, config: dict[str, Any] | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        """Run a Dagster job in this process."""
        found = self.definitions().resolve_job_def(job)
        return found.execute_in_process(run_config=config, instance=instance, raise_on_error=False, **options)
