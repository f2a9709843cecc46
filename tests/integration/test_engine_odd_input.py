"""Odd tables, odd answers, odd templates: what is odd fails alone or is kept as it is; the rest is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from batch_llm import wiring
from batch_llm.engine import progress
from batch_llm.engine.events import Progress
from batch_llm.errors import InputError
from batch_llm.simulator import FaultKind
from tests.integration.engine_lab import answered_body, compatible_server, write_input
from tests.integration.lab import SCHEMA, Lab

YEAR_12000 = 3_664_000  # days since 1970
ODD_USAGE: dict[str, dict[str, Any]] = {  # by the prompt's last character
    "1": {"prompt_tokens_details": [1]},
    "2": {"prompt_tokens_details": {"cached_tokens": "many"}},
    "3": {"completion_tokens_details": 7},
    "4": {"prompt_tokens_details": {"cached_tokens": -1}, "completion_tokens_details": {"reasoning_tokens": [2]}},
}

DEEP = '{{"tone": {}1{}, "score": 1}}'
ODD_CHOICES: dict[str, tuple[str, Any]] = {  # likewise: what is said, and why it ended
    "1": ('{"tone": "calm", "score": 1}', ["stop"]),
    "2": (DEEP.format("[" * 300, "]" * 300), "stop"),
    "3": ("[1] Sure: " + DEEP.format("[" * 300, "]" * 300), "stop"),
    "4": (DEEP.format('{"a":' * 1_000, "}" * 1_000), "stop"),
}

FAILED = {"malformed": 1, "schema_mismatch": 3}


# -- answers --------------------------------------------------------------------------------------------------------


async def test_an_answer_with_odd_usage_is_an_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is ok, its price is the tokens', and its slice can be opened again."""
    monkeypatch.setenv("LOCAL_KEY", "k-1")
    lab.table(6)
    asked: list[str] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        return 200, answered_body("fine", **ODD_USAGE.get(prompt[-1], {}))

    async with compatible_server(lab, answer) as model:
        job = lab.job(model=model, output={"table": "out"})
        sample = await lab.run(job, limit=5)
        assert (sample.ok, sample.failed, sample.pending) == (5, 0, 1)
        whole = await lab.run(job)  # replays the journal
        assert (whole.ok, whole.failed, len(asked)) == (6, 0, 6)
    assert {(row["llm_input_tokens"], row["llm_output_tokens"]) for row in lab.rows()} == {(5, 5)}
    assert len({row["llm_cost_usd"] for row in lab.rows()}) == 1


async def test_an_odd_answer_costs_its_row_and_never_its_job(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the journal: every later command reads it again, and goes on."""
    monkeypatch.setenv("LOCAL_KEY", "k-1")
    lab.table(7)
    asked: list[str] = []
    odd = dict(ODD_CHOICES)

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        text, reason = odd.get(prompt[-1], (ODD_CHOICES["1"][0], "stop"))
        return 200, answered_body("") | {"choices": [{"message": {"content": text}, "finish_reason": reason}]}

    async with compatible_server(lab, answer) as model:
        job = lab.job(model=model, retries={"attempts": 1, "re_asks": 0})
        sample = await lab.run(job, limit=6)
        assert (sample.ok, sample.failed, sample.pending) == (2, 4, 1)
        whole = await lab.run(job)  # replays the journal
        assert (whole.run_id, whole.ok, whole.failed_by_class) == (sample.run_id, 3, FAILED)
        assert (whole.input_tokens, whole.output_tokens, len(asked)) == (35, 35, 7)
        again = await wiring.reparser(lab.settings, job).reparse()
        assert again.moves == {("ok", "ok"): 3, **{(name, name): rows for name, rows in FAILED.items()}}
        odd.clear()
        async with lab.engine(job) as engine:
            assert (await engine.retry()).ok == 7
        assert (len(asked), {row["llm_status"] for row in lab.rows()}) == (7 + 4, {"ok"})


async def test_an_answer_of_any_size_is_not_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row fails and may be paid; the journal holds that, and nothing of what came."""
    monkeypatch.setenv("LOCAL_KEY", "k-1")
    lab.table(3)

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        filling = {"filling": "x" * (65 << 20)} if prompt[-1] == "1" else {}
        return 200, answered_body("fine") | filling

    async with compatible_server(lab, answer) as model:
        job = lab.job(model=model, output={"table": "out"}, retries={"attempts": 1})
        summary = await lab.run(job)
        assert (summary.ok, summary.failed_by_class) == (2, {"malformed": 1})
        again = await wiring.reparser(lab.settings, job).reparse()  # replays the journal
        assert again.moves == {("ok", "ok"): 2, ("malformed", "malformed"): 1}
    assert sum(file.stat().st_size for file in (lab.folder / "home").rglob("*") if file.is_file()) < 10 << 20
    (row,) = (row for row in lab.rows() if row["llm_status"] == "failed")
    assert row["llm_error"] == "the answer is larger than 64 MiB, the most that is read"


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [[[1], [2]], [{"a": 1}, {"a": 2}]])
async def test_a_nested_key_is_refused(lab: Lab, keys: list[Any]) -> None:
    """Before any call: a list or a struct cannot name a row."""
    write_input(lab, id=[0, 1], text=["a", "b"], extra=keys)
    job = lab.job(input={"table": "input.parquet", "key": ["extra"]}, output={"table": "out", "schema": SCHEMA})
    async with lab.simulator() as simulator:
        with pytest.raises(InputError, match=r"input\.key: extra holds lists or structs"):
            await lab.run(job)
        assert simulator.stats()["accepted"] == 0


async def test_a_row_whose_key_is_not_a_number_is_asked_once(lab: Lab) -> None:
    """NaN does not equal itself; its answer is found all the same."""
    job = lab.job(input={"table": "input.parquet", "key": ["extra"]}, output={"table": "out", "schema": SCHEMA})
    async with lab.simulator() as simulator:
        write_input(lab, id=[0, 1], text=["a", "b"], extra=[float("nan"), 2.0])
        assert (await lab.run(job)).ok == 2
        write_input(lab, id=[0, 1], text=["a", "changed"], extra=[float("nan"), 2.0])
        summary = await lab.run(job)
        assert (summary.ok, summary.cached, simulator.stats()["accepted"]) == (2, 1, 3)


# -- values ---------------------------------------------------------------------------------------------------------


def _days(lab: Lab) -> list[int | None]:
    """The output's column ``extra`` as days, by id."""
    batches = list(wiring.open_store(lab.settings).warehouse.rows("out", columns=["id", "extra"]))
    table = pa.Table.from_batches(batches).sort_by("id")
    found: list[int | None] = table.column("extra").cast(pa.int32()).to_pylist()
    return found


async def test_a_date_that_python_cannot_hold_is_kept(lab: Lab) -> None:
    """A column that only passes through need not be understood."""
    write_input(lab, id=[0, 1], text=["a", "b"], extra=pa.array([YEAR_12000, 0], pa.date32()))
    async with lab.simulator():
        summary = await lab.run()
    assert (summary.ok, summary.failed) == (2, 0)
    assert _days(lab) == [YEAR_12000, 0]


async def test_a_date_that_python_cannot_hold_fails_its_row_when_it_is_asked_about(lab: Lab) -> None:
    """That row alone, as `template`."""
    write_input(lab, id=[0, 1, 2], text=["a", "b", "c"], extra=pa.array([0, YEAR_12000, 1], pa.date32()))
    job = lab.job(prompt={"user": "{{ text }} on {{ extra }}"}, output={"table": "out", "schema": SCHEMA})
    async with lab.simulator() as simulator:
        summary = await lab.run(job)
        assert (summary.ok, summary.failed_by_class) == (2, {"template": 1})
        assert simulator.stats()["accepted"] == 2
    assert [row["llm_status"] for row in lab.rows()] == ["ok", "failed", "ok"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ text }}{{ cycler(*tags).next() }}",  # RuntimeError: no items
        '{{ text }}{% if not tags %}{{ "\\ud800" }}{% endif %}',  # half a character
        "{{ text }}{% if not tags %}{{ [1, 2] | sum(start=text) }}{% endif %}",  # TypeError
    ],
)
async def test_a_row_whose_prompt_cannot_be_made_fails_alone(lab: Lab, template: str) -> None:
    """As `template`, for nothing, and the others are answered."""
    write_input(lab, id=[0, 1, 2], text=["a", "b", "c"], tags=[["x"], [], ["y"]], extra=[0, 1, 2])
    async with lab.simulator() as simulator:
        summary = await lab.run(lab.job(prompt={"user": template}))
        assert (summary.ok, summary.failed_by_class) == (2, {"template": 1})
        assert simulator.stats()["accepted"] == 2
        assert simulator.stats()["rejected_total"] == 0
    assert [row["llm_status"] for row in lab.rows()] == ["ok", "failed", "ok"]


# -- places ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["out", "out.parquet"])
async def test_a_folder_called_like_a_column_says_nothing_of_it(tmp_path: Path, output: str) -> None:
    """Home, input and output lie in ``region=eu``; a second run finds the rows that the first has answered."""
    folder, regions = tmp_path / "region=eu", ["us", "asia", "africa"]
    folder.mkdir()
    lab = Lab(folder)
    job = lab.job(
        prompt={"user": "Grade: {{ text }} of {{ region }}"},
        output={"table": output, "schema": SCHEMA, "keep": ["region"]},
    )
    place = output if output == "out" else str(folder / output)
    async with lab.simulator() as simulator:
        for rows in (2, 3):
            write_input(lab, id=list(range(rows)), text=["a"] * rows, region=regions[:rows])
            assert (await lab.run(job)).ok == rows
            assert [row["region"] for row in lab.rows(place)] == regions[:rows]
            assert simulator.stats()["accepted"] == rows


# -- figures --------------------------------------------------------------------------------------------------------


async def test_failed_rows_of_an_earlier_run_are_counted_as_failed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress shows them as the summary will, while the one new row is still asked."""
    monkeypatch.setattr(progress, "TICK_S", 0.05)
    long = "text {}" + "x" * 3000
    lab.table(20, text=long)
    async with lab.simulator(context_tokens=700):
        assert (await lab.run()).failed == 20
    lab.table(21, text=long)
    async with lab.simulator(latency_median_s=0.5, latency_sigma=0.0001):
        lab.events.clear()
        summary = await lab.run()
    assert (summary.ok, summary.failed) == (1, 20)
    told = {(event.ok, event.failed) for event in lab.events if isinstance(event, Progress)}
    assert (0, 20) in told and max(ok for ok, _ in told) == 1


# -- nothing at all -------------------------------------------------------------------------------------------------


def _empty(lab: Lab) -> None:
    write_input(lab, id=pa.array([], pa.int64()), text=pa.array([], pa.string()), extra=pa.array([], pa.int64()))


async def test_an_empty_table_makes_an_empty_output_once(lab: Lab) -> None:
    """With all its columns; the second run has nothing to do."""
    _empty(lab)
    async with lab.simulator() as simulator:
        first = await lab.run()
        assert (first.rows, first.nothing_to_do) == (0, False)
        columns = _columns(lab)
        assert columns[:4] == ["id", "extra", "tone", "score"] and "llm_status" in columns
        again = await lab.run()
        assert (again.run_id, again.nothing_to_do, lab.rows()) == (first.run_id, True, [])
        assert simulator.stats()["accepted"] == 0


def _columns(lab: Lab) -> list[str]:
    with duckdb.connect(str(lab.settings.duckdb_path), read_only=True) as connection:
        return [name for name, *_ in connection.execute("DESCRIBE main.out").fetchall()]


async def test_an_emptied_table_empties_a_replaced_output(lab: Lab) -> None:
    """`mode: replace` holds what the input holds."""
    lab.table(5)
    job = lab.job(output={"table": "out", "schema": SCHEMA, "mode": "replace"})
    async with lab.simulator():
        await lab.run(job)
        assert len(lab.rows()) == 5
        _empty(lab)
        assert (await lab.run(job)).rows == 0
    assert lab.rows() == []


async def test_an_answer_without_a_believable_usage_is_said_to_be_left_out_of_the_sum(lab: Lab) -> None:
    """The summary names how many rows its cost does not cover, so that the sum does not look exact."""
    lab.table(10)
    async with lab.simulator(faults={FaultKind.USAGE: 1.0}):
        summary = await lab.run()
    assert (summary.ok, summary.cost_usd, summary.cost_unknown_rows) == (10, None, 10)


async def test_a_refused_input_leaves_no_folder_behind(lab: Lab) -> None:
    """A key that repeats is found while freezing; nothing of the run remains."""
    lab.table(10)
    async with lab.simulator():
        with pytest.raises(InputError):
            await lab.run(lab.job(input={"table": "input.parquet", "key": ["extra"]}, output={"table": "out"}))
    assert list((lab.folder / "home" / "runs").glob("*")) == []


async def test_a_filter_whose_rows_may_change_is_applied_at_each_run(lab: Lab) -> None:
    """Frozen again, nothing asked again; an unfinished run goes on with the rows it has."""
    lab.table(6)
    job = lab.job(input={"table": "input.parquet", "key": ["id"], "where": "random() >= 0 AND now() > '2020-01-01'"})
    async with lab.simulator() as simulator:
        begun = await lab.run(job, limit=2)
        first = await lab.run(job)
        second = await lab.run(job)
        assert simulator.stats()["answered"] == 6
    assert (begun.run_id, first.pending) == (first.run_id, 0)
    assert second.run_id != first.run_id
    assert (second.nothing_to_do, second.requests, second.ok) == (False, 0, 6)
