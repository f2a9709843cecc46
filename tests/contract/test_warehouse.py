"""The Warehouse protocol: one suite for every implementation.

Belongs here: what every warehouse promises of slices and outputs. Not here: inputs (test_warehouse_inputs.py),
reading what is stored (test_warehouse_rows.py), crashes, repetition, memory (test_warehouse_durability.py), what only
one implementation can do (tests/unit/warehouse/).
"""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.base import LLM_COLUMNS, LLM_SCHEMA, Mode, StatusCounts, Warehouse
from tests.contract.warehouse_lab import (
    KEY,
    OUTPUT_SCHEMA,
    Lab,
    batches,
    input_table,
    output_rows,
    publish,
    spec,
    stored,
    written,
)

# ---- published slices


def test_publishing_replaces_the_slice_and_no_other(warehouse: Warehouse) -> None:
    publish(warehouse, "r1", 0, {"a": "ok", "b": "pending"})
    publish(warehouse, "r1", 1, {"c": "failed"})
    publish(warehouse, "r1", 0, {"a": "ok", "b": "ok"}, answer="new")
    assert stored(warehouse, "run:r1") == {"a": ("ok", "new"), "b": ("ok", "new"), "c": ("failed", None)}


def all_rows(warehouse: Warehouse, place: str) -> list[dict[str, Any]]:
    """By key from the last to the first: a place has no order of its own."""
    return sorted(all_rows_of(warehouse, place), key=lambda row: row["id"], reverse=True)


def test_published_rows_come_back_as_they_were(lab: Lab) -> None:
    """Money to the last digit, times with their zone, NULL as NULL, answers of any shape."""
    warehouse = lab.warehouse
    answers = [
        pa.field("score", pa.float64()),
        pa.field("names", pa.list_(pa.string())),
        pa.field("place", pa.struct([("x", pa.int64()), ("y", pa.string())])),
    ]
    schema = pa.schema([pa.field("id", pa.string()), *answers, *LLM_SCHEMA])
    rows = [
        {**dict.fromkeys(schema.names), **output_rows("r1", 0, {key: "ok"})[0], "id": key, **values}
        for key, values in {
            'x"y': {
                "score": 0.1,
                "names": ["ä", None] if lab.keeps_missing_lists else ["ä"],
                "place": {"x": 1, "y": "中"},
            },
            "": {"score": None, "names": [], "place": None},
        }.items()
    ]
    for row in rows:
        row.pop("answer")
    published = warehouse.publish("r1", 0, batches(rows, schema), schema)
    assert published.rows == 2
    for place in ("run:r1", published.place):
        assert all_rows(warehouse, place) == rows
    warehouse.promote("r1", "tone", KEY, "upsert")
    assert all_rows(warehouse, "tone") == rows


def test_counts_are_those_of_the_stored_rows(warehouse: Warehouse) -> None:
    """Per slice: statuses, attempts, tokens, the known cost, and how many costs are not known."""
    rows = output_rows("r1", 0, {"a": "ok", "b": "ok", "c": "failed", "d": "pending"})
    rows[1].update(llm_cached=True, llm_attempts=0, llm_cost_usd=None, llm_input_tokens=0, llm_output_tokens=0)
    warehouse.publish("r1", 0, batches(rows), OUTPUT_SCHEMA)
    publish(warehouse, "r1", 1, {"e": "pending"})
    assert warehouse.published("r1") == {
        0: StatusCounts(4, 2, 1, 1, 1, 4, 30, 9, Decimal("0.000000125"), 1),
        1: StatusCounts(1, 0, 0, 1, 0, 0, 10, 3, None, 0),
    }
    assert warehouse.published("another") == {}


def test_answers_may_be_called_as_our_counters_are(warehouse: Warehouse) -> None:
    """No column of a job gets in the way of counting its rows."""
    names = [*(field.name for field in fields(StatusCounts)), "ours", "stored", "all_rows"]
    schema = pa.schema([*OUTPUT_SCHEMA, *(pa.field(name, pa.string()) for name in names)])
    rows = [{**row, **dict.fromkeys(names, "x")} for row in output_rows("r1", 0, {"a": "ok", "b": "failed"})]
    warehouse.publish("r1", 0, batches(rows, schema), schema)
    assert warehouse.published("r1") == {0: StatusCounts(2, 1, 1, 0, 0, 4, 20, 6, Decimal("0.000000125"), 1)}


def test_a_version_of_published_rows_changes_with_them(warehouse: Warehouse) -> None:
    """Or there is none, and counting costs nothing."""
    seen = [warehouse.published_version("r1")]
    for number, answer in ((0, "one"), (1, "one"), (1, "two")):
        publish(warehouse, "r1", number, {f"k{number}": "ok"}, answer)
        seen.append(warehouse.published_version("r1"))
        assert warehouse.published_version("r1") == seen[-1]
        assert set(warehouse.published("r1")) == set(range(number + 1))
    known = [each for each in seen if each is not None]
    assert not known or [each.rows for each in known] == [0, 1, 2, 2]
    assert len({each.token for each in known}) == len(known)


def test_rows_of_another_slice_are_refused(warehouse: Warehouse) -> None:
    """They would stay when the slice is published again."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    with pytest.raises(WarehouseError, match="llm_slice"):
        warehouse.publish("r1", 0, batches(output_rows("r1", 1, {"b": "ok"})), OUTPUT_SCHEMA)
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


def test_a_failing_stream_publishes_nothing(warehouse: Warehouse) -> None:
    publish(warehouse, "r1", 0, {"a": "ok"})

    def failing() -> Any:
        yield from batches(output_rows("r1", 0, {"b": "ok"}))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        warehouse.publish("r1", 0, failing(), OUTPUT_SCHEMA)
    assert stored(warehouse, "run:r1") == {"a": ("ok", "a")}


def test_the_live_view_shows_what_is_published(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok"})
    name = warehouse.live_view("r1", output)
    assert name == warehouse.live_view("r1", output)
    assert name.endswith("tone__live")
    publish(warehouse, "r1", 1, {"b": "pending"})
    assert set(stored(warehouse, name)) == {"a", "b"}
    publish(warehouse, "r2", 0, {"c": "ok"})
    warehouse.live_view("r2", output)
    warehouse.forget("r1")
    assert set(stored(warehouse, name)) == {"c"}


@pytest.mark.parametrize("made", ["TABLE", "VIEW"])
def test_what_stands_where_the_live_view_would_be_is_told_before_and_stays(lab: Lab, output: str, made: str) -> None:
    """Before anything is paid for; and once more where it came later."""
    place = "results.tone__live" if output == "results.tone" else "tone__live"
    lab.put("results.another", pa.table({"mine": [1]}))
    lab.execute(f"CREATE {made} {place} AS SELECT 1 AS mine")
    with pytest.raises(OutputError, match=f"the {made.lower()} .*tone__live stands where .* rename it, or give the"):
        lab.warehouse.ensure(output, OUTPUT_SCHEMA, KEY)
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    with pytest.raises(OutputError, match=f"the {made.lower()} "):
        lab.warehouse.live_view("r1", output)
    assert all_rows_of(lab.warehouse, place) == [{"mine": 1}]
    lab.execute(f"DROP {made} {place}")
    lab.warehouse.live_view("r1", output)
    lab.warehouse.ensure(output, OUTPUT_SCHEMA, KEY)


def all_rows_of(warehouse: Warehouse, place: str) -> list[dict[str, Any]]:
    return [row for batch in warehouse.rows(place) for row in batch.to_pylist()]


def test_what_is_unpublished_can_be_published_with_other_columns(warehouse: Warehouse, output: str) -> None:
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.live_view("r1", output)
    for _ in range(2):
        warehouse.unpublish("r1")
        assert warehouse.published("r1") == {}
    schema = OUTPUT_SCHEMA.append(pa.field("added", pa.string()))
    rows = [batch.append_column("added", pa.array(["new"] * batch.num_rows)) for batch in
            batches(output_rows("r1", 0, {"a": "ok"}))]  # fmt: skip
    warehouse.publish("r1", 0, iter(rows), schema)
    assert [row["added"] for batch in warehouse.rows("run:r1") for row in batch.to_pylist()] == ["new"]


# ---- the output table

STATUSES = ("ok", "failed", "pending")


@pytest.mark.parametrize("mode", ["upsert", "replace", "append_missing"])
def test_which_row_takes_the_place_of_which(warehouse: Warehouse, output: str, mode: Mode) -> None:
    """Every status against every status, keys that only one side has, twice in a row."""
    before = {f"{old}-{new}": old for old in STATUSES for new in STATUSES}
    incoming = {f"{old}-{new}": new for old in STATUSES for new in STATUSES}
    publish(warehouse, "r1", 0, {**before, "gone": "ok"}, answer="old")
    warehouse.promote("r1", output, KEY, "upsert")
    publish(warehouse, "r2", 0, {**incoming, "come": "pending"}, answer="new")
    by_run = {"ok-ok", "failed-ok", "failed-failed", "ok-failed", *(f"pending-{new}" for new in STATUSES)}
    if mode == "append_missing":
        by_run -= {"ok-ok", "failed-failed", "ok-failed"}
    status = {pair: pair.split("-")[pair in by_run] for pair in before}
    expected = {
        pair: (kept, ("new" if pair in by_run else "old") if kept == "ok" else None) for pair, kept in status.items()
    }
    expected["come"] = ("pending", None)
    if mode != "replace":
        expected["gone"] = ("ok", "old")
    for _ in range(2):
        assert warehouse.promote("r2", output, KEY, mode).rows == len(expected)
        assert stored(warehouse, output) == expected


def test_a_row_that_takes_the_place_leaves_nothing_of_the_old(warehouse: Warehouse, output: str) -> None:
    """Also not in a column that the new run does not have: an answer must not stand beside another's."""
    wider = OUTPUT_SCHEMA.append(pa.field("score", pa.float64()))
    rows = [{**row, "score": 0.5} for row in output_rows("r1", 0, {"a": "ok", "b": "ok"})]
    warehouse.publish("r1", 0, batches(rows, wider), wider)
    warehouse.promote("r1", output, KEY, "upsert")
    publish(warehouse, "r2", 0, {"a": "ok"}, answer="new")
    warehouse.promote("r2", output, KEY, "upsert")
    found = [row for batch in warehouse.rows(output, columns=["id", "score"]) for row in batch.to_pylist()]
    assert sorted(found, key=lambda row: row["id"]) == [{"id": "a", "score": None}, {"id": "b", "score": 0.5}]


def test_an_input_without_rows_makes_an_output_without_rows(warehouse: Warehouse, output: str) -> None:
    """Publishing a slice of no rows gives the run its columns."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    warehouse.publish("r2", 0, iter(()), OUTPUT_SCHEMA)
    assert warehouse.promote("r2", output, KEY, "upsert").rows == 1
    assert warehouse.promote("r2", output, KEY, "replace").rows == 0
    assert stored(warehouse, output) == {}


def test_nothing_published_is_not_promoted(warehouse: Warehouse, output: str) -> None:
    with pytest.raises(WarehouseError, match="run r1 has published nothing"):
        warehouse.promote("r1", output, KEY, "replace")
    with pytest.raises(OutputError):
        list(warehouse.rows(output))


def test_an_output_that_can_take_the_rows_is_accepted(warehouse: Warehouse, output: str) -> None:
    """Absent, or made by us; columns that are missing are added, what stands there stays."""
    warehouse.ensure(output, OUTPUT_SCHEMA, KEY)
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    warehouse.ensure(output, OUTPUT_SCHEMA, KEY)
    wider = OUTPUT_SCHEMA.insert(1, pa.field("score", pa.float64()))
    warehouse.ensure(output, wider, KEY)
    rows = [{**row, "score": 0.5} for row in output_rows("r2", 0, {"b": "ok"})]
    warehouse.publish("r2", 0, batches(rows, wider), wider)
    warehouse.promote("r2", output, KEY, "upsert")
    found = [row for batch in warehouse.rows(output, columns=["id", "score"]) for row in batch.to_pylist()]
    assert sorted(found, key=lambda row: row["id"]) == [{"id": "a", "score": None}, {"id": "b", "score": 0.5}]


@pytest.mark.parametrize(
    ("schema", "key", "complaint"),
    [
        (
            OUTPUT_SCHEMA.set(1, pa.field("answer", pa.float64())),
            KEY,
            r"'answer' is (VARCHAR|STRING) there and would be (DOUBLE|FLOAT64)",
        ),
        (OUTPUT_SCHEMA, ("id", "answer"), r"the job's key is \(id, answer\), but its key is \(id\)"),
        (OUTPUT_SCHEMA.append(pa.field("ID", pa.string())), KEY, "columns twice.*ID, id"),
        (OUTPUT_SCHEMA.remove(0), KEY, "lacks its key columns id"),
    ],
)
def test_an_output_that_cannot_take_the_rows_is_refused(
    warehouse: Warehouse, output: str, schema: pa.Schema, key: tuple[str, ...], complaint: str
) -> None:
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", output, KEY, "upsert")
    with pytest.raises(OutputError, match=complaint):
        warehouse.ensure(output, schema, key)


def _as_other_answers(run_id: str, key: str, column: pa.Field, value: Any) -> tuple[list[dict[str, Any]], pa.Schema]:
    schema = OUTPUT_SCHEMA.append(column)
    return [{**row, column.name: value} for row in output_rows(run_id, 0, {key: "ok"})], schema


def test_runs_with_other_columns_that_began_before_the_output_both_get_in(warehouse: Warehouse, output: str) -> None:
    """Neither saw the other's columns when it began; each output row has those of its run."""
    runs = {"r1": ("a", pa.field("one", pa.int64()), 1), "r2": ("b", pa.field("two", pa.float64()), 0.5)}
    for run_id, made in runs.items():
        rows, schema = _as_other_answers(run_id, *made)
        warehouse.ensure(output, schema, KEY)
        warehouse.publish(run_id, 0, batches(rows, schema), schema)
    for run_id in runs:
        warehouse.promote(run_id, output, KEY, "upsert")
    found = [row for batch in warehouse.rows(output, columns=["id", "one", "two"]) for row in batch.to_pylist()]
    assert sorted(found, key=lambda row: row["id"]) == [
        {"id": "a", "one": 1, "two": None},
        {"id": "b", "one": None, "two": 0.5},
    ]


def test_runs_that_do_not_go_together_are_told_so_at_the_second_promotion(warehouse: Warehouse, output: str) -> None:
    """Both began before there was an output. The first one's rows stay, nothing of the second is bent into them."""
    for run_id, kind in (("r1", pa.int64()), ("r2", pa.float64())):
        rows, schema = _as_other_answers(run_id, run_id, pa.field("score", kind), 1)
        warehouse.ensure(output, schema, KEY)
        warehouse.publish(run_id, 0, batches(rows, schema), schema)
    warehouse.promote("r1", output, KEY, "upsert")
    with pytest.raises(OutputError, match=r"'score' is (BIGINT|INT64) there and would be (DOUBLE|FLOAT64)"):
        warehouse.promote("r2", output, KEY, "upsert")
    with pytest.raises(OutputError, match=r"the job's key is \(id, answer\), but its key is \(id\)"):
        warehouse.promote("r1", output, ("id", "answer"), "upsert")
    assert set(stored(warehouse, output)) == {"r1"}


def test_somebody_elses_table_is_refused(lab: Lab, tmp_path: Path) -> None:
    lab.put("theirs", input_table(1))
    lab.execute("CREATE VIEW looked AS SELECT * FROM theirs")
    path = written(tmp_path / "theirs.parquet", input_table(1))
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    for ref in ("theirs", path):
        with pytest.raises(OutputError, match="not made by batch_llm"):
            lab.warehouse.ensure(ref, OUTPUT_SCHEMA, KEY)
        with pytest.raises(OutputError, match="not made by batch_llm"):
            lab.warehouse.promote("r1", ref, KEY, "replace")
        assert lab.warehouse.count(ref, None) == 1
    for ref, complaint in {
        "looked": "is a view",
        lab.our_table: "belong",
        lab.no_table: "neither a table",
    }.items():
        with pytest.raises(OutputError, match=complaint):
            lab.warehouse.ensure(ref, OUTPUT_SCHEMA, KEY)


def test_an_output_that_is_the_input_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    """Also one that the input's pattern would find the next time."""
    path = str(tmp_path / "data" / "out.parquet")
    for output, source in {
        "tone": "Tone",
        path: path,
        str(tmp_path / "data" / ".." / "data" / "out.parquet"): path,
        str(tmp_path / "data" / "new.parquet"): str(tmp_path / "data" / "*.parquet"),
        str(tmp_path / "data" / "x" / "new.parquet"): str(tmp_path / "**" / "*.parquet"),
    }.items():
        with pytest.raises(OutputError, match="the input"):
            warehouse.ensure(output, OUTPUT_SCHEMA, KEY, source=source)
    warehouse.ensure("tone", OUTPUT_SCHEMA, KEY, source="texts")
    warehouse.ensure(path, OUTPUT_SCHEMA, KEY, source=str(tmp_path / "*.parquet"))


def test_earlier_rows_of_a_slice_are_found_wherever_they_are(warehouse: Warehouse, output: str, tmp_path: Path) -> None:
    """From the output and from other runs' slices, finished rows only, this slice's keys only."""
    source = written(tmp_path / "in.parquet", input_table(8))
    frozen = warehouse.freeze(spec("r3", source))
    publish(warehouse, "r1", 0, {"k00000": "ok", "k00001": "failed", "k00002": "pending", "k00005": "ok"}, answer="1")
    publish(warehouse, "r2", 0, {"k00000": "ok", "k00003": "ok", "other": "ok"}, answer="2")
    assert [list(warehouse.prior(frozen, 0, place)) for place in (output, "run:absent")] == [[], []]
    warehouse.promote("r1", output, KEY, "upsert")
    for place, expected in {
        output: [("k00000", "ok", "1"), ("k00001", "failed", None)],
        "run:r2": [("k00000", "ok", "2"), ("k00003", "ok", "2")],
    }.items():
        rows = [row for batch in warehouse.prior(frozen, 0, place) for row in batch.to_pylist()]
        assert sorted((row["id"], row["llm_status"], row["answer"]) for row in rows) == expected
        assert set(LLM_COLUMNS) <= set(rows[0])


def test_an_output_has_another_version_when_rows_gave_way(warehouse: Warehouse, output: str) -> None:
    """Rows that came, that went, and one in the place of another; else the same. Empty without an output."""
    seen = [warehouse.output_version(output)]
    publish(warehouse, "r1", 0, {"a": "ok", "b": "ok"})
    publish(warehouse, "r2", 0, {"b": "ok"})
    steps: list[tuple[str, Mode]] = [("r1", "upsert"), ("r2", "upsert"), ("r2", "replace")]
    for run_id, mode in steps:
        warehouse.promote(run_id, output, KEY, mode)
        seen.append(warehouse.output_version(output))
        assert warehouse.output_version(output) == seen[-1]
    assert (seen[0], len(set(seen))) == ("", 4)


def test_a_forgotten_run_is_gone_and_its_output_stays(lab: Lab, output: str, tmp_path: Path) -> None:
    warehouse = lab.warehouse
    frozen = warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", input_table(2))))
    publish(warehouse, "r1", 0, {"a": "ok"})
    publish(warehouse, "r2", 0, {"b": "ok"})
    view = warehouse.live_view("r1", output)
    warehouse.promote("r1", output, KEY, "upsert")
    (lab.home / "runs" / "r1" / "run.json").write_text("{}")
    for _ in range(2):
        warehouse.forget("r1")
    with pytest.raises(WarehouseError, match="was the run forgotten"):
        next(warehouse.read(frozen, 0))
    for place in ("run:r1", view):
        with pytest.raises(OutputError):
            warehouse.rows(place)
    assert warehouse.published("r1") == {}
    assert stored(warehouse, output) == {"a": ("ok", "a")}
    assert stored(warehouse, "run:r2") == {"b": ("ok", "a")}
    assert (lab.home / "runs" / "r1" / "run.json").exists()
