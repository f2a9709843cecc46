"""One user's folder: table, job file, providers file and home; and `batch-llm run` in it.

Belongs here: writing those files, starting the command, reading the output table as a user would. Not here: what a
case does with them, judging (judge.py).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.engine.judge import Rows
from benchmarks.engine.process import Ended, environment, measured, started
from benchmarks.engine.tables import write

__all__ = ["SCHEMA", "Lab", "last_lines"]

PROGRAM = str(Path(sys.executable).with_name("batch-llm"))
RUN = (PROGRAM, "run", "job.yaml", "--yes", "--json")
SCHEMA = {"tone": {"enum": ["calm", "tense", "neutral"]}, "score": "number", "why": "string"}
UNLIMITED = {"max_concurrency": 64}


class Lab:
    """Open once per job; `run` and `start` may be repeated, as a user repeats a command."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is made."""
        self.folder = folder
        self.home = folder / "home"
        self.rows = 0
        self._variables = {"BATCH_LLM_HOME": str(self.home), "BATCH_LLM_PROVIDERS": str(folder / "providers.yaml")}
        folder.mkdir(parents=True, exist_ok=True)

    def table(self, rows: int, text: Callable[[int], str]) -> Path:
        """Write the input."""
        self.rows = rows
        return write(self.folder / "input.parquet", rows, text)

    def providers(
        self, port: int, limits: dict[str, float] | None = None, host: str = "127.0.0.1", **pool: Any
    ) -> None:
        """The provider at this port, one pool."""
        pools = [{"name": "main", "models": ["*"], "limits": limits or UNLIMITED, **pool}]
        spec = {"kind": "simulator", "base_url": f"http://{host}:{port}/v1", "pools": pools}
        self._write("providers.yaml", {"providers": {"simulator": spec}})

    def job(self, *, schema: dict[str, Any] | None = None, **changes: Any) -> None:
        """The job file."""
        output = {"table": "out"} if schema is None else {"table": "out", "schema": schema}
        job = {
            "name": "bench",
            "input": {"table": "input.parquet", "key": ["id"]},
            "prompt": {"user": "Say: {{ text }}"},
            "model": "simulator/fast",
            "output": output,
        }
        self._write("job.yaml", job | changes)

    def variables(self, **more: str) -> None:
        """More environment for the command."""
        self._variables |= more

    def run(self, *, wrapped: tuple[str, ...] = ()) -> Ended:
        """`batch-llm run`, to its end. ``wrapped``: a command to run it under."""
        return measured((*wrapped, *RUN), environment(**self._variables), self.folder)

    @contextmanager
    def start(self, log: str = "log", *, wrapped: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """The same, running; what it prints goes to the folder ``log``."""
        place = self.folder / log
        place.mkdir(exist_ok=True)
        with started((*wrapped, *RUN), environment(**self._variables), self.folder, place) as process:
            yield process

    def told(self, log: str = "log", lines: int = 4) -> str:
        """The last lines that commands started with ``log`` printed for the user, as one line."""
        return last_lines((self.folder / log / "stderr").read_text(encoding="utf-8", errors="replace"), lines)

    def output(self) -> Rows:
        """How the rows stand in the output table."""
        question = (
            "SELECT count(*), count(DISTINCT id), count(*) FILTER (llm_status = 'ok'),"
            " count(*) FILTER (llm_status = 'failed') FROM out"
        )
        with duckdb.connect(str(self._database), read_only=True) as database:
            stored, distinct, ok, failed = database.execute(question).fetchone() or (0, 0, 0, 0)
        return Rows(expected=self.rows, stored=stored, distinct=distinct, ok=ok, failed=failed)

    def wrong_rows(self, right: Lab, columns: tuple[str, ...]) -> int:
        """Rows that are ok here and say something else than the same rows of ``right``."""
        differs = " OR ".join(f'here."{name}" IS DISTINCT FROM there."{name}"' for name in columns)
        with duckdb.connect(str(self._database), read_only=True) as database:
            database.execute(f"ATTACH '{right._database}' AS other (READ_ONLY)")
            found = database.execute(
                f"SELECT count(*) FROM out AS here LEFT JOIN other.main.out AS there USING (id)"
                f" WHERE here.llm_status = 'ok' AND (there.id IS NULL OR {differs})"
            ).fetchone()
        return int(found[0]) if found else 0

    @property
    def _database(self) -> Path:
        return self.home / "warehouse.duckdb"

    def _write(self, name: str, data: dict[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(data), encoding="utf-8")


def last_lines(text: str, lines: int = 4) -> str:
    """The end of what a command printed."""
    return " / ".join(line.strip() for line in text.strip().splitlines()[-lines:])
