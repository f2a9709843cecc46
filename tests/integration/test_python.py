"""The Python door: a job from a script, over a file or a frame; what it gives back."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_llm
from batch_llm.engine.collector import THRESHOLDS
from batch_llm.engine.events import Event, FirstFailure, Progress, RunFinished, RunStarted
from batch_llm.errors import ConfigurationError, InputError, JobFileError, OutputError
from batch_llm.python import RunResult
from tests.integration.lab import SCHEMA, Lab

Job = Callable[..., dict[str, Any]]
DATES = pd.DataFrame(
    {"id": [1, 2], "text": pd.Series([date(2020, 1, 1), pd.Timestamp("2020-01-02 17:30")], dtype=object)}
)


@pytest.fixture
def job(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job without a table, over the simulator in this process, in a home of its own."""
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("BATCH_LLM_HOME", str(lab.folder / "home"))

    def make(**changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": "from_python",
            "input": {"key": ["id"]},
            "prompt": {"user": "{{ text }}"},
            "model": "simulator/small",
            "output": {"table": "graded", "schema": SCHEMA},
        }
        return {**found, **changes}

    return make


def frame(rows: int, **more: Any) -> pd.DataFrame:
    ids = range(rows)
    return pd.DataFrame({"id": ids, "text": [f"text {i}" for i in ids], **more})


def quiet(job: Any, table: Any = None, **how: Any) -> RunResult:
    return batch_llm.run(job, table, progress=False, **how)


# -- a table of the job's own ---------------------------------------------------------------------------------------


def test_a_job_from_python_gives_a_frame(lab: Lab, job: Job) -> None:
    """The same keys as the job file; the frame holds every row, missing numbers missing."""
    lab.table(25)
    own = job(input={"table": "input.parquet", "key": ["id"]})
    with pytest.raises(OutputError):
        batch_llm.output(own)
    result = quiet(own, limit=20)
    assert (result.ok, result.pending, result.stopped, len(result)) == (20, 5, "sample", 25)
    found = batch_llm.output(batch_llm.declare(own, lab.folder))
    assert isinstance(found, pd.DataFrame) and len(found) == 25
    assert found["score"].isna().sum() == 5 and found["llm_cost_usd"].isna().all()


@pytest.mark.parametrize("limit", [0, -1, 2.0, "5", True])
def test_a_limit_that_is_no_number_of_rows_is_refused_before_anything_is_asked(lab: Lab, job: Job, limit: Any) -> None:
    """-1 would ask every row."""
    with pytest.raises(ConfigurationError, match=r"limit is .*whole number of rows, 1 or more"):
        quiet(job(), frame(20), limit=limit)
    assert not (lab.folder / "home").exists()


@pytest.mark.parametrize("kind", [RunStarted, FirstFailure, Progress, RunFinished])
def test_a_listener_that_raises_is_told_once_and_changes_nothing(
    lab: Lab, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[Event]
) -> None:
    """Whenever it does: the rows end as they would have."""
    monkeypatch.setenv("BATCH_LLM_PROVIDERS", str(lab.folder / "providers.yaml"))
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        if isinstance(event, kind):
            raise ValueError("a defect of the caller's")

    table = frame(20)
    table.loc[3, "text"] = "x" * 3000  # the first failure, for a context of 700 tokens

    async def run() -> RunResult:
        async with lab.simulator(context_tokens=700):
            return await batch_llm.arun(job(), table, listener=listener, progress=False)

    result = asyncio.run(run())
    assert (result.ok, result.failed, result.pending, result.stopped) == (19, 1, 0, None)
    assert set(result.summary.failed_by_class) == {"too_large"}
    assert isinstance(heard[-1], kind) and sum(isinstance(event, kind) for event in heard) == 1
    assert [record.exc_info is not None for record in caplog.records if "listener" in record.message] == [True]


def test_the_collector_of_the_callers_process_is_left_alone(lab: Lab, job: Job) -> None:
    """A notebook runs for hours: what it drops meanwhile is freed as ever. Our own processes collect rarely."""
    before, seen = (gc.get_threshold(), gc.get_freeze_count()), set()
    quiet(job(), frame(20), listener=lambda _: seen.add((gc.get_threshold(), gc.get_freeze_count())))
    assert seen == {before}

    async def own() -> None:
        async with lab.simulator(), lab.engine():
            assert gc.get_threshold() == THRESHOLDS

    asyncio.run(own())
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_importing_the_package_is_light(root: Path) -> None:
    """Nothing heavy comes with the name."""
    heavy = {"pydantic", "duckdb", "pyarrow", "pandas", "polars", "openai", "IPython"}
    code = f"import sys, batch_llm; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.strip() == "[]"
    assert all(hasattr(batch_llm, name) for name in batch_llm.__all__)


def test_a_path_is_relative_to_the_working_directory(lab: Lab, job: Job) -> None:
    """Also when the job file lies elsewhere; its own table, if it has one, is passed over."""
    lab.table(3)
    (lab.folder / "jobs").mkdir()
    file = lab.folder / "jobs" / "j.yaml"
    file.write_text(
        "name: elsewhere\ninput: {key: [id]}\nprompt: {user: '{{ text }}'}\nmodel: simulator/small\n"
        "output: {table: out}\n"
    )
    assert quiet(file, "input.parquet").ok == 3
    assert quiet(job(input={"table": "absent.parquet", "key": ["id"]}), Path("input.parquet")).ok == 3
    with pytest.raises(JobFileError, match=r"input\.table"):
        quiet(file)


# -- frames ---------------------------------------------------------------------------------------------------------


def _stream(table: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from table.to_batches(max_chunksize=7)


@pytest.mark.parametrize(
    "make",
    [
        lambda data: data,
        pa.Table.from_pandas,
        lambda data: pa.Table.from_pandas(data).combine_chunks().to_batches()[0],
        lambda data: pa.RecordBatchReader.from_batches(
            pa.Table.from_pandas(data).schema, _stream(pa.Table.from_pandas(data))
        ),
        pl.from_pandas,
    ],
    ids=["pandas", "arrow table", "record batch", "reader", "polars"],
)
def test_any_frame_is_an_input(job: Job, make: Callable[[pd.DataFrame], Any]) -> None:
    """One result row per row, in the frame's order, as Arrow, pandas and polars."""
    data = frame(20).sample(frac=1, random_state=1)
    result = quiet(job(slices={"rows": 6}), make(data))
    assert (result.ok, result.failed, result.pending) == (20, 0, 0)
    assert result.to_arrow().column("id").to_pylist() == data["id"].tolist()
    assert result.to_pandas()["id"].tolist() == data["id"].tolist()
    assert result.to_polars()["id"].to_list() == data["id"].tolist()
    assert sum(batch.num_rows for batch in result.rows) == 20
    assert result.to_pandas()["score"].dtype == pd.ArrowDtype(pa.float64())


def test_the_same_content_is_the_same_version(lab: Lab, job: Job) -> None:
    """A second call has nothing to do, a grown frame asks the new rows only, a sample goes on."""
    sample = quiet(job(), frame(10), limit=4)
    whole = quiet(job(), frame(10))
    assert (sample.stopped, whole.run_id, whole.summary.requests) == ("sample", sample.run_id, 6)
    again = quiet(job(), pl.from_pandas(frame(10)))
    assert (again.summary.nothing_to_do, again.run_id) == (True, whole.run_id)
    grown = quiet(job(), frame(13))
    assert (grown.ok, grown.cached, grown.summary.requests) == (13, 10, 3)
    assert len(list((lab.folder / "home" / "uploads").iterdir())) == 2


def test_only_what_the_job_uses_is_written(lab: Lab, job: Job) -> None:
    """A change of an unused column asks nothing, and an unused column of any type is no obstacle."""
    odd = pd.period_range("2024-01", periods=3, freq="M")
    assert quiet(job(), frame(3, other=odd)).ok == 3
    assert quiet(job(), frame(3, other=[1, 2, 3])).summary.nothing_to_do
    (path,) = (lab.folder / "home" / "uploads").iterdir()
    assert pq.read_schema(path).names == ["id", "text"]
    mixed = pd.Series([7, 2.5, 1], dtype=object)
    opaque = pl.Series([7, 2.5, 1], dtype=pl.Object)
    filter_ = job(input={"key": ["id"], "where": "other > 1"})
    assert len(quiet(filter_, frame(3, other=[1, 2, 3], odd=odd, mixed=mixed))) == 2
    assert len(quiet(filter_, pl.from_pandas(frame(3, other=[1, 2, 3])).with_columns(mixed=opaque))) == 2


def test_an_index_is_a_column_when_the_job_uses_it(job: Job) -> None:
    """By its name, also a level of several; one without a name, or unused, is not in the way."""
    assert quiet(job(), frame(3).set_index("id")).to_pandas()["id"].tolist() == [0, 1, 2]
    several = frame(3, name="a").assign(part="x").set_index(["part", "id"])
    assert quiet(job(name="several", output={"table": "several", "schema": SCHEMA}), several).ok == 3
    unused = job(name="unused", output={"table": "unused", "schema": SCHEMA})
    assert quiet(unused, frame(4).set_index(pd.Index([7, 7, 7, 7], name="other"))).ok == 4
    with pytest.raises(InputError, match="no key column 'id'"):
        quiet(job(), frame(3).drop(columns="id"))


def test_an_empty_frame_gives_an_empty_result_with_its_columns(job: Job) -> None:
    """In every form."""
    result = quiet(job(), frame(3).iloc[:0].astype({"text": "string"}))
    assert (len(result), result.to_arrow().num_rows) == (0, 0)
    assert result.to_pandas().columns[:3].tolist() == ["id", "tone", "score"]
    assert "llm_status" in result.to_polars().columns


def _categories(values: Any) -> pd.Categorical:
    return pd.Categorical.from_codes(range(len(values)), categories=pd.Index(values, dtype=object))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pd.DataFrame({"id": [1], "ID": [2]}), "columns twice"),
        (pl.LazyFrame({"id": [1]}), r"LazyFrame; collect\(\) it first"),
        ([1, 2], "a builtins list"),
        (
            pd.DataFrame({"id": [1], "text": [pd.Timedelta("1s")]}),
            r"column 'text' \(timedelta64\[ns\]\).*total_seconds",
        ),
        (pd.DataFrame({"id": [1, 2], "text": ["a", 1]}), r"column 'text' \(object\) cannot be frozen: .*one type"),
        (
            pd.DataFrame({"id": [1, 2], "text": ["a", b"b"]}),
            r"'text' \(object\).* .iloc\[0\] is 'a' \(str\) .* one type",
        ),
        (DATES, r"'text' \(object\).* .iloc\[1\] is .* \(Timestamp\) and would become .* \(date\); .* one type"),
        (DATES.assign(text=_categories(DATES["text"])), r"'text' \(category\).* .cat.categories\[1\] is .* one type"),
        (pl.DataFrame({"id": [1], "text": pl.Series([1], dtype=pl.Object)}), r"'text' \(Object\).* one type"),
        (pd.DataFrame({"id": [1], "text": ["\ud800"]}), r"column 'text' \(object\).*half a character"),
        (pa.table({"id": [1], "text": pa.array([1], pa.duration("s"))}), r"column 'text' \(duration\[s\]\)"),
        (pl.Series("id", [1]), "cannot|no stream"),
    ],
)
def test_what_cannot_be_an_input_is_refused_by_name(job: Job, table: Any, words: str) -> None:
    """Before any call, naming column and type."""
    with pytest.raises(InputError, match=words):
        quiet(job(), table)


def test_a_bad_key_is_one_of_your_table_not_of_a_file_that_you_never_saw(lab: Lab, job: Job) -> None:
    twice = pd.concat([frame(2), frame(1)], ignore_index=True)
    with pytest.raises(InputError, match=r"^input \(your table\): the key \(id\) is not unique: 1 key stands in 2"):
        quiet(job(), twice)


def test_forgetting_a_job_erases_its_frames(lab: Lab, job: Job) -> None:
    """What no other job names."""
    from batch_llm.cli.forget import forget_runs

    quiet(job(), frame(3))
    quiet(job(name="other", output={"table": "other", "schema": SCHEMA}), frame(3))
    uploads = lab.folder / "home" / "uploads"
    forget_runs("from_python")
    assert len(list(uploads.iterdir())) == 1
    forget_runs("other")
    assert list(uploads.iterdir()) == []


# -- loops ----------------------------------------------------------------------------------------------------------


async def test_the_sync_form_works_inside_a_running_loop(job: Job) -> None:
    """As in a notebook's cell; so do the limits."""
    result = quiet(job(), frame(5))
    assert result.ok == 5 and batch_llm.limits()


async def test_the_awaitable_form_leaves_the_loop_free(job: Job) -> None:
    """Two at once in the caller's loop."""
    first, second = await asyncio.gather(
        batch_llm.arun(job(), frame(5), progress=False),
        batch_llm.arun(job(name="second", output={"table": "second"}), frame(6), progress=False),
    )
    assert (first.ok, second.ok) == (5, 6)


def slow(lab: Lab) -> None:
    """Each answer takes a quarter of a second, four at a time."""
    (lab.folder / "slow.yaml").write_text(
        "providers:\n  simulator:\n    kind: simulator\n"
        "    pools: [{name: main, models: ['*'], limits: {requests_per_minute: 60000, max_concurrency: 4}}]\n"
        "    simulator: {latency_median_s: 0.25, latency_sigma: 0.0001}\n"
    )


async def test_a_cancelled_await_drains_and_the_same_call_goes_on(
    lab: Lab, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in flight is paid: it comes in, is kept, and is never asked again."""
    slow(lab)
    monkeypatch.setenv("BATCH_LLM_PROVIDERS", str(lab.folder / "slow.yaml"))
    told: list[Event] = []
    running: asyncio.Task[RunResult]

    def listen(event: Event) -> None:
        told.append(event)
        if len(told) == 3:  # started, and two seconds of progress
            running.cancel()

    running = asyncio.create_task(batch_llm.arun(job(), frame(60), listener=listen, progress=False))
    with pytest.raises(asyncio.CancelledError, match="the same call goes on"):
        await running
    stopped = told[-1]
    assert isinstance(stopped, RunFinished) and stopped.summary.stopped == "cancelled"
    assert 0 < stopped.summary.ok < 60
    monkeypatch.delenv("BATCH_LLM_PROVIDERS")
    rest = quiet(job(), frame(60))
    assert (rest.ok, rest.summary.requests) == (60, 60 - stopped.summary.ok)


def test_a_wrong_job_is_told_inside_a_loop_as_well(job: Job) -> None:
    """The thread's error is the caller's."""

    async def cell() -> None:
        quiet(job(model="nobody/small"), frame(1))

    with pytest.raises(ConfigurationError, match="nobody"):
        asyncio.run(cell())


def test_times_of_a_zone_are_shown_in_utc_and_that_is_said(
    lab: Lab, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    """Only of those that the prompt shows; without the zone the times are as the frame shows them."""
    local = pd.to_datetime(["2020-01-01 00:00"]).tz_localize("Europe/Vienna")
    table = frame(1, at=local, seen=local, utc=local.tz_convert("UTC"))
    shown = job(prompt={"user": "{{ text }} {{ at }} {{ utc }}"}, output={"table": "graded", "keep": ["seen"]})
    quiet(shown, table)
    (said,) = [record.getMessage() for record in caplog.records if "time zone" in record.getMessage()]
    assert "in UTC, not in their own time zone: at (Europe/Vienna); " in said
    assert "tz_localize(None)" in said
    caplog.clear()
    quiet(shown, table.assign(at=local.tz_localize(None)))
    assert "time zone" not in caplog.text
    quiet(shown, pa.table({"id": [0], "text": ["x"], "at": [1], "utc": [1], "seen": pa.array(local)}))
    assert "time zone" not in caplog.text
