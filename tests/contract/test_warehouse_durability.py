"""The Warehouse protocol under repetition, kill -9, company and size.

Belongs here: the invariants that every warehouse keeps whatever happens. Not here: what the calls mean
(test_warehouse.py).
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_llm.warehouse.base import Mode, Warehouse
from tests.contract.warehouse_lab import KEY, LABS, Lab, input_table, publish, stored, written
from tests.search import examples

ROOT = Path(__file__).parents[2]
Row = tuple[str, str | None]  # status, answer

# how rows are read does not matter to them, and each takes long
EITHER = pytest.mark.parametrize("kind", ["duckdb", "bigquery"], indirect=True)


# ---- repetition: any sequence of calls equals a model of dicts


@dataclass
class Model:
    """What the rows must be, by the protocol's words."""

    slices: dict[str, dict[int, dict[str, Row]]] = field(default_factory=dict)
    output: dict[str, Row] = field(default_factory=dict)

    def publish(self, run_id: str, number: int, rows: dict[str, Row]) -> None:
        self.slices.setdefault(run_id, {})[number] = rows

    def promote(self, run_id: str, mode: Mode) -> None:
        incoming = {key: row for rows in self.slices[run_id].values() for key, row in rows.items()}
        if mode == "replace":
            self.output = {key: row for key, row in self.output.items() if key in incoming}
        for key, row in incoming.items():
            if self._takes_the_place(self.output.get(key), row, mode):
                self.output[key] = row

    @staticmethod
    def _takes_the_place(present: Row | None, row: Row, mode: Mode) -> bool:
        if present is None or present[0] == "pending":
            return True
        if mode == "append_missing":
            return present[0] == "failed" and row[0] == "ok"
        return row[0] != "pending"


KEYS = "abcd"  # a and c belong to slice 0, b and d to slice 1
statuses = st.sampled_from(["ok", "failed", "pending"])
publishing = st.tuples(
    st.just("publish"), st.sampled_from(["r1", "r2"]), st.integers(0, 1), st.lists(statuses, min_size=2, max_size=2)
)
promoting = st.tuples(
    st.just("promote"), st.sampled_from(["r1", "r2"]), st.sampled_from(["upsert", "replace", "append_missing"])
)
steps = st.lists(st.tuples(st.one_of(publishing, promoting, promoting), st.booleans()), min_size=2, max_size=6)


@EITHER
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), steps=steps)
def test_any_sequence_of_publishing_and_promoting_equals_the_model(
    kind: str, data: st.DataObject, steps: list[tuple[tuple[object, ...], bool]]
) -> None:
    """In any order and any repetition, in every mode; every key of the output stands there once."""
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        lab, model = LABS[kind](Path(folder) / "home"), Model()
        output = data.draw(st.sampled_from(["tone", str(Path(folder) / "tone.parquet")]))
        for step, repeated in steps:
            answer = f"answer {next(numbers)}"
            for _ in range(1 + repeated):
                apply(step, lab.warehouse, model, output, answer)
            if model.output:
                assert stored(lab.warehouse, output) == model.output
        for run_id, slices in model.slices.items():
            counts = lab.warehouse.published(run_id)
            assert {number: info.rows for number, info in counts.items()} == dict.fromkeys(slices, 2)
            assert all(info.ok + info.failed + info.pending == info.rows for info in counts.values())


def apply(step: tuple[object, ...], warehouse: Warehouse, model: Model, output: str, answer: str) -> None:
    match step:
        case ("publish", str(run_id), int(number), list(chosen)):
            rows = dict(zip(KEYS[number::2], chosen, strict=True))
            publish(warehouse, run_id, number, rows, answer)
            model.publish(
                run_id, number, {key: (status, answer if status == "ok" else None) for key, status in rows.items()}
            )
        case ("promote", str(run_id), mode) if run_id in model.slices:
            warehouse.promote(run_id, output, KEY, mode)  # type: ignore[arg-type]
            model.promote(run_id, mode)  # type: ignore[arg-type]


# ---- kill -9


def program(text: str, *arguments: object) -> list[str]:
    start = "import sys\nfrom pathlib import Path\nfrom tests.contract.warehouse_lab import *\n"
    return [sys.executable, "-c", start + textwrap.dedent(text), *(str(each) for each in arguments)]


FOREVER = """
    kind, home, *outputs = sys.argv[1:]
    for round in range(1_000_000):
        answer = f"round {round}"
        publish(LABS[kind](Path(home)).warehouse, "r1", 0, {f"k{n}": "ok" for n in range(500)}, answer)
        print("published", flush=True)
        for output in outputs:
            LABS[kind](Path(home)).warehouse.promote("r1", output, KEY, "upsert")
            print("promoted", flush=True)
"""
STEPS = 3  # publish, promote into a table, promote into a file


@EITHER
def test_a_kill_leaves_the_old_rows_or_the_new(kind: str, tmp_path: Path) -> None:
    """Killed at different moments of endless rounds: 500 rows everywhere, all of one round."""
    labs = [LABS[kind](tmp_path / f"home{number}") for number in range(STEPS)]
    outputs = [["tone", str(lab.home / "out" / "tone.parquet")] for lab in labs]
    children = [
        subprocess.Popen(program(FOREVER, kind, lab.home, *places), cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for lab, places in zip(labs, outputs, strict=True)
    ]
    for number, (child, lab, places) in enumerate(zip(children, labs, outputs, strict=True)):
        with child:
            assert child.stdout is not None
            assert all(child.stdout.readline() for _ in range(STEPS + number))
            child.send_signal(signal.SIGKILL)
        for place in ("run:r1", *places):
            rows = stored(lab.warehouse, place)
            assert len(rows) == 500
            assert len(set(rows.values())) == 1
        publish(lab.warehouse, "r1", 0, {"k0": "ok"}, "last")
        for place in places:
            lab.warehouse.promote("r1", place, KEY, "replace")
            assert stored(lab.warehouse, place) == {"k0": ("ok", "last")}


KILLED_WHILE_STREAMING = """
    import os, signal
    kind, home, source = sys.argv[1:]
    warehouse = LABS[kind](Path(home)).warehouse
    def rows():
        yield from batches(output_rows("r1", 0, {"new": "ok"}))
        os.kill(os.getpid(), signal.SIGKILL)
    publish(warehouse, "r1", 0, {"old": "ok"})
    warehouse.publish("r1", 0, rows(), OUTPUT_SCHEMA)
"""


@EITHER
def test_a_kill_while_rows_still_come_leaves_the_old_slice(kind: str, lab: Lab) -> None:
    done = subprocess.run(program(KILLED_WHILE_STREAMING, kind, lab.home, ""), cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert stored(lab.warehouse, "run:r1") == {"old": ("ok", "a")}


FREEZE = """
    kind, home, source = sys.argv[1:]
    print("up", flush=True)
    LABS[kind](Path(home)).warehouse.freeze(spec("r1", source, rows_per_slice=20))
    print("frozen", flush=True)
    input()
"""


@EITHER
def test_a_kill_while_freezing_leaves_nothing_or_all(kind: str, lab: Lab, tmp_path: Path) -> None:
    """The same freeze afterwards gives the whole input."""
    source = written(tmp_path / "in.parquet", input_table(4000))
    with subprocess.Popen(
        program(FREEZE, kind, lab.home, source), cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline()
        runs = lab.home / "runs" / "r1"
        while child.poll() is None and not (any(runs.glob("*/0003.parquet")) if runs.exists() else False):
            time.sleep(0.001)  # until some slices are written, not all of them
        child.send_signal(signal.SIGKILL)
    with subprocess.Popen(
        program(FREEZE, kind, lab.home, source), cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as child:
        out, _ = child.communicate("\n")
        assert out.split() == ["up", "frozen"]
    assert len(list(runs.glob("frozen/*.parquet"))) == 200
    lab.warehouse.forget("r1")
    assert not runs.exists()


# ---- company

FIVE_SLICES = """
    kind, home, run_id = sys.argv[1:]
    for number in range(5):
        publish(LABS[kind](Path(home)).warehouse, run_id, number, {f"{run_id}-{number}": "ok"})
        LABS[kind](Path(home)).warehouse.promote(run_id, "tone", KEY, "upsert")
"""


@EITHER
def test_two_processes_and_their_threads_share_a_warehouse(kind: str, lab: Lab) -> None:
    """They take turns; nobody's rows are lost."""
    children = [subprocess.Popen(program(FIVE_SLICES, kind, lab.home, run_id), cwd=ROOT) for run_id in ("r1", "r2")]

    def one(number: int) -> None:
        publish(lab.warehouse, "r3", number, {f"r3-{number}": "ok"})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, range(5)))
    assert [child.wait(60) for child in children] == [0, 0]
    lab.warehouse.promote("r3", "tone", KEY, "upsert")
    assert set(stored(lab.warehouse, "tone")) == {f"r{run}-{number}" for run in (1, 2, 3) for number in range(5)}


# ---- size

WHOLE_WAY = """
    import resource
    kind, home, source = sys.argv[1:]
    warehouse = LABS[kind](Path(home), memory_limit="100MB").warehouse
    frozen = warehouse.freeze(spec("r1", source, rows_per_slice=25_000))
    schema = pa.schema([pa.field("id", pa.string()), pa.field("text", pa.string()), *LLM_SCHEMA])
    def answered(number):
        for batch in warehouse.read(frozen, number, batch_rows=1000):
            own = {"llm_status": pa.repeat("ok", batch.num_rows), "llm_slice": pa.repeat(number, batch.num_rows)}
            columns = [own[name].cast(schema.field(name).type) if name in own else
                       pa.nulls(batch.num_rows, schema.field(name).type) for name in schema.names[2:]]
            yield pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=schema)
    for info in frozen.slices:
        warehouse.publish("r1", info.number, answered(info.number), schema)
    for info in frozen.slices:
        assert sum(batch.num_rows for batch in warehouse.prior(frozen, info.number, "run:r1")) == info.rows
    for output in ("tone", home + "/tone.parquet"):
        warehouse.promote("r1", output, KEY, "upsert")
    rows = sum(batch.num_rows for batch in warehouse.rows("tone"))
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
LIMIT_MB = 100  # what DuckDB may take of its own
SLACK_MB = 120  # buffers, fragments; the text alone is 190 MB


def test_memory_does_not_grow_with_the_rows(kind: str, lab: Lab, tmp_path: Path) -> None:
    """From the input to the output, many rows with 190 MB of text take what 300 rows take, and DuckDB's limit."""
    peaks_mb = []
    for rows in (300, lab.many_rows):
        source = tmp_path / f"{rows}.parquet"
        words = 6_000_000 // lab.many_rows
        text = f"SELECT 'k' || i AS id, repeat(md5(i::VARCHAR), {words}) AS text FROM range({rows}) r(i)"
        duckdb.execute(f"COPY ({text}) TO '{source}' (ROW_GROUP_SIZE 10240)")
        command = program(WHOLE_WAY, kind, tmp_path / f"home{rows}", source)
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        found, peak_mb = map(int, done.stdout.split())
        assert found == rows
        peaks_mb.append(peak_mb)
    assert peaks_mb[1] - peaks_mb[0] < LIMIT_MB + SLACK_MB, peaks_mb
