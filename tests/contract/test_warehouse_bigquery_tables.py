"""The BigQuery warehouse's tables: types, names, slices on another machine.

Belongs here: what is in tables. Not here: calls that fail (test_warehouse_bigquery_calls.py), the protocol's promises
(test_warehouse*.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from batch_llm.errors import InputError, OutputError, WarehouseError
from batch_llm.warehouse.base import LLM_SCHEMA, DateRange, FreezeBill, Warehouse
from batch_llm.warehouse.bigquery import Options, open_client
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.bigquery_warehouse_lab import hasty, on_another_machine, read_all
from tests.contract.warehouse_lab import (
    KEY,
    OUTPUT_SCHEMA,
    BigQueryLab,
    batches,
    input_table,
    output_rows,
    publish,
    spec,
    stored,
    written,
)


@pytest.fixture
def lab(bigquery: BigQueryServer, tmp_path: Path) -> BigQueryLab:
    return BigQueryLab(tmp_path / "home", options=Options(patience=hasty()))


# ---- inputs


@pytest.mark.parametrize("cut", ["day", "TIMESTAMP_TRUNC(day, DAY)", "TIMESTAMP_TRUNC(day, MONTH)"])
def test_a_range_of_dates_reads_only_its_partitions_of_the_input(lab: BigQueryLab, cut: str) -> None:
    """By a dry run, of a table that lets nobody read it without such a filter; where it has months, a month."""
    kind, made = ("DATE", "d") if cut == "day" else ("TIMESTAMP", "TIMESTAMP(d)")
    options = "OPTIONS (require_partition_filter = TRUE)"
    days = "UNNEST(GENERATE_DATE_ARRAY('2026-01-01', '2026-02-28')) AS d"
    lab.execute(f"CREATE TABLE raw.texts (id STRING, text STRING, day {kind}) PARTITION BY {cut} {options}")
    lab.execute(f"INSERT INTO raw.texts (id, text, day) SELECT CAST(d AS STRING), 'text', {made} FROM {days}")
    row_bytes = len("2026-01-01") + 2 + len("text") + 2 + 8
    warehouse = lab.warehouse
    picked = warehouse.within("raw.texts", DateRange("day", date(2026, 1, 3), date(2026, 1, 4)), "id != 'x'")
    asked = spec("r1", "raw.texts", where=picked)
    assert warehouse.freeze_bill(asked) == FreezeBill(row_bytes * (31 if "MONTH" in cut else 1), 15.0)
    assert warehouse.freeze(asked).rows == 1


@pytest.mark.parametrize("place", ["table", "file"])
def test_another_machine_reads_the_same_slices(lab: BigQueryLab, tmp_path: Path, place: str) -> None:
    """Same rows, same order, same types, although the source is gone; its freeze gives the same input."""
    table = input_table(50)
    path = written(tmp_path / "in.parquet", table)
    lab.put("raw.texts", table)
    asked = spec("r1", path if place == "file" else "raw.texts", columns=("id", "turns", "year"), rows_per_slice=7)
    here, there = lab.warehouse, on_another_machine(lab)
    frozen = here.freeze(asked)
    Path(path).unlink()
    lab.execute("DELETE FROM raw.texts WHERE TRUE")
    assert there.freeze(asked) == frozen
    assert read_all(there, frozen) == read_all(here, frozen)
    ours, theirs = (next(each.read(frozen, 0)).schema for each in (here, there))
    assert ours == theirs
    assert sorted(row["id"] for row in read_all(there, frozen)) == table["id"].to_pylist()


def test_a_files_slices_stay_partitions_whatever_a_load_replaces(lab: BigQueryLab, tmp_path: Path) -> None:
    """Each load says how the table that it replaces is cut."""
    frozen = lab.warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", input_table(8))))
    with open_client(lab.project) as client:
        loads = [job for job in client.list_jobs() if job.job_type == "load"]
        tables = [client.get_table(f"{lab.project}.tables.batch_llm_{name}_r1") for name in ("files", "work")]
    assert [each.range_partitioning.field for each in (*loads, *tables)] == ["_slice"] * 4
    assert len(frozen.slices) == 2


def test_earlier_answers_are_found_on_another_machine(lab: BigQueryLab, tmp_path: Path) -> None:
    """Of an input that was a file there."""
    frozen = lab.warehouse.freeze(spec("r1", written(tmp_path / "in.parquet", input_table(8))))
    publish(lab.warehouse, "r0", 0, {"k00001": "ok"})
    found = [row["id"] for batch in on_another_machine(lab).prior(frozen, 0, "run:r0") for row in batch.to_pylist()]
    assert found == ["k00001"]


def test_a_rows_place_is_decided_by_its_key_alone(lab: BigQueryLab) -> None:
    """Whatever the order in which BigQuery reads the table."""
    table = input_table(60)
    lab.put("raw.one", table)
    lab.put("raw.two", table.take(pa.array(range(59, -1, -1))))
    one, two = (
        read_all(lab.warehouse, lab.warehouse.freeze(spec(f"r{n}", f"raw.{name}", rows_per_slice=9)))
        for n, name in enumerate(("one", "two"))
    )
    assert one == two
    assert [row["id"] for row in one] != table["id"].to_pylist()


def test_there_are_never_more_than_a_thousand_slices(lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(2_003))
    frozen = lab.warehouse.freeze(spec("r1", "raw.texts", rows_per_slice=1))
    assert [info.rows for info in frozen.slices] == [3] * 667 + [2]
    assert next(iter(lab.warehouse.read(frozen, 667))).num_rows == 2


EVERY_TYPE = """
    CREATE TABLE raw.types AS
    SELECT
        'a' AS id, TRUE AS bool, 9223372036854775807 AS integer, CAST('NaN' AS FLOAT64) AS number,
        NUMERIC '12345678901234567890123456789.123456789' AS money,
        BIGNUMERIC '0.00000000000000000000000000000000000001' AS tiny, b'\\x00\\xff' AS bytes,
        DATE '0001-01-01' AS day, TIME '23:59:59.999999' AS clock, DATETIME '2026-01-02 03:04:05.678901' AS local,
        TIMESTAMP '9999-12-31 23:59:59.999999+00' AS moment, [1, 2] AS list,
        STRUCT('x' AS s, [STRUCT(TRUE AS b)] AS l) AS nested, JSON '{"a": [1, null]}' AS json,
        ST_GEOGFROMTEXT('POINT(1 2)') AS place
    UNION ALL
    SELECT 'b', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
"""


def test_every_type_comes_through_without_loss(lab: BigQueryLab) -> None:
    """From a table to a slice, to published rows, to an output; what only SQL can read comes as text."""
    lab.execute(EVERY_TYPE)
    schema = lab.warehouse.source("raw.types").schema
    assert schema is not None
    frozen = lab.warehouse.freeze(spec("r1", "raw.types", columns=tuple(schema.names)))
    rows = {row["id"]: row for row in read_all(lab.warehouse, frozen)}
    batch = next(lab.warehouse.read(frozen, 0))
    assert batch.schema.types == schema.types
    with open_client(lab.project) as client:
        there = {row["id"]: dict(row) for row in client.query_and_wait("SELECT * FROM raw.types")}
    number = rows["a"].pop("number")
    assert number != number  # noqa: PLR0124  NaN
    text = {
        "json": rows["a"].pop("json").replace(" ", ""),
        "place": rows["a"].pop("place").replace("POINT (", "POINT("),
    }
    assert text == {"json": '{"a":[1,null]}', "place": "POINT(1 2)"}
    assert rows["a"] == {name: value for name, value in there["a"].items() if name not in ("number", "json", "place")}
    assert {value for name, value in rows["b"].items() if name not in ("id", "list")} == {None}

    out = pa.schema([*(field.with_nullable(True) for field in schema), *LLM_SCHEMA])
    llm = [{name: row[name] for name in LLM_SCHEMA.names} for row in output_rows("r1", 0, dict.fromkeys("ab", "ok"))]
    kept = [{**row, **own} for row, own in zip(batch.to_pylist(), llm, strict=False)]
    lab.warehouse.ensure("kept", out, KEY)
    lab.warehouse.publish("r1", 0, batches(kept, out), out)
    lab.warehouse.promote("r1", "kept", KEY, "upsert")
    found = {row["id"]: row for each in lab.warehouse.rows("kept") for row in each.to_pylist()}
    assert repr([found[row["id"]].pop("number") for row in kept]) == repr([row.pop("number") for row in kept])
    assert [found[row["id"]] for row in kept] == kept
    lab.warehouse.ensure("kept", out, KEY)


@pytest.mark.parametrize("kind", ["FLOAT64", "NUMERIC", "BYTES", "DATE", "TIMESTAMP", "BOOL"])
def test_a_key_may_be_of_any_scalar_type(lab: BigQueryLab, kind: str) -> None:
    """NaN is a key like any other: it is found again and replaced."""
    values = {
        "FLOAT64": "[CAST('NaN' AS FLOAT64), 0.1]", "NUMERIC": "[NUMERIC '1.5', NUMERIC '2']",
        "BYTES": "[b'\\x00', b'a']", "DATE": "[DATE '2026-01-01', DATE '2026-01-02']",
        "TIMESTAMP": "[TIMESTAMP '2026-01-01 00:00:00+00', TIMESTAMP '2026-01-01 00:00:00.000001+00']",
        "BOOL": "[TRUE, FALSE]",
    }[kind]  # fmt: skip
    lab.execute(f"CREATE TABLE raw.keyed AS SELECT id FROM UNNEST({values}) AS id")
    frozen = lab.warehouse.freeze(spec("r2", "raw.keyed", columns=("id",)))
    keys = next(lab.warehouse.read(frozen, 0)).column(0)
    schema = pa.schema([pa.field("id", keys.type), *LLM_SCHEMA])
    for run_id in ("r1", "r2"):
        rows = [
            {**{name: row[name] for name in LLM_SCHEMA.names}, "id": key, "llm_model": run_id}
            for key, row in zip(keys.to_pylist(), output_rows(run_id, 0, {"a": "ok", "b": "ok"}), strict=True)
        ]
        lab.warehouse.publish(run_id, 0, batches(rows, schema), schema)
        assert lab.warehouse.promote(run_id, "tone", KEY, "upsert").rows == 2
    for place in ("tone", "run:r1"):
        assert sum(batch.num_rows for batch in lab.warehouse.prior(frozen, 0, place)) == 2


def test_a_missing_part_of_a_slice_is_noticed(lab: BigQueryLab, tmp_path: Path) -> None:
    """Nothing is read from a slice that did not come whole."""
    lab.put("raw.texts", input_table(8))
    of_table = lab.warehouse.freeze(spec("r1", "raw.texts"))
    of_file = lab.warehouse.freeze(spec("r2", written(tmp_path / "in.parquet", input_table(8))))
    lab.execute("DELETE FROM `batch_llm_work_r1` WHERE _slice = 1 AND _row = 2")
    lab.execute("DELETE FROM `batch_llm_files_r2` WHERE _slice = 1")
    for frozen, complaint in ((of_table, "holds 3 rows"), (of_file, "part 0 of its file is missing")):
        with pytest.raises(WarehouseError, match=complaint):
            list(on_another_machine(lab).read(frozen, 1))
        assert list(on_another_machine(lab).read(frozen, 0))


def test_a_dead_promotion_to_a_file_leaves_nothing_behind(lab: BigQueryLab, tmp_path: Path) -> None:
    """What it had already brought to this machine does not get into the next one."""
    path = str(tmp_path / "tone.parquet")
    files = DuckDBWarehouse(lab.home / "files.duckdb", lab.home / "runs")
    publish(files, "r1", 7, {"left": "ok"})
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.promote("r1", path, KEY, "upsert")
    assert stored(lab.warehouse, path) == {"a": ("ok", "a")}
    assert files.published("r1") == {}


def test_a_missing_dataset_is_said(lab: BigQueryLab) -> None:
    with pytest.raises(InputError, match=r"no table 'nowhere\.texts': there is no BigQuery dataset .*\.nowhere"):
        lab.warehouse.source("nowhere.texts")


def test_a_missing_right_names_it(bigquery: BigQueryServer, lab: BigQueryLab) -> None:
    lab.put("raw.texts", input_table(2))
    bigquery.configure(missing_permissions=["bigquery.jobs.create"])
    with pytest.raises(WarehouseError, match=r"bigquery\.jobs\.create.*roles/bigquery\.jobUser"):
        lab.warehouse.count("raw.texts", None)
    with pytest.raises(InputError, match="no table"):
        lab.warehouse.source("absent")


# ---- outputs


def test_a_column_that_somebody_else_changed_meanwhile_is_looked_at_again(
    bigquery: BigQueryServer, warehouse: Warehouse
) -> None:
    """412: the table is not what it was when it was looked at."""
    publish(warehouse, "r1", 0, {"a": "ok"})
    warehouse.promote("r1", "tone", KEY, "upsert")
    bigquery.faults(Fault("tables.patch", status=412, reason="conditionNotMet", calls=(1,)))
    warehouse.ensure("tone", OUTPUT_SCHEMA.append(pa.field("added", pa.float64())), KEY)
    assert "added" in next(warehouse.rows("tone")).schema.names


@pytest.mark.parametrize("name", ["results.tone#2", "results.tone?x=1", "results.ton%65"])
def test_a_name_that_leads_to_another_table_is_refused(lab: BigQueryLab, name: str) -> None:
    """In a call's address it would be cut short, or read as another one."""
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.promote("r1", "results.tone", KEY, "upsert")
    with pytest.raises(OutputError, match="neither a table"):
        lab.warehouse.ensure(name, OUTPUT_SCHEMA.append(pa.field("more", pa.string())), KEY)
    assert "more" not in next(lab.warehouse.rows("results.tone")).schema.names


def test_a_dataset_that_is_not_there_is_said_with_the_command_that_makes_it(warehouse: Warehouse) -> None:
    with pytest.raises(OutputError, match=r"no BigQuery dataset p\w+\.absent; make it: `bq --location=US mk --dataset"):
        warehouse.ensure("absent.tone", OUTPUT_SCHEMA, KEY)


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        (pa.field("a b", pa.string()), "no columns called 'a b'"),
        (pa.field("_PARTITIONTIME", pa.string()), "no columns called '_PARTITIONTIME'"),
        (pa.field("deep", pa.list_(pa.list_(pa.string()))), "'deep' holds lists of lists"),
    ],
)
def test_columns_that_bigquery_cannot_have_are_refused_before_any_call(
    warehouse: Warehouse, column: pa.Field, complaint: str
) -> None:
    with pytest.raises(OutputError, match=complaint):
        warehouse.ensure("tone", OUTPUT_SCHEMA.append(column), KEY)


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_paid_for_outlives_the_datasets_default_expiry(
    bigquery: BigQueryServer, lab: BigQueryLab, *, killed: bool
) -> None:
    """Published rows and outputs, also those of a process that was killed before it could say so."""
    day_ms = 86_400_000
    with open_client(lab.project) as client:
        for name in ("tables", "results"):
            dataset = client.get_dataset(f"{lab.project}.{name}")
            dataset.default_table_expiration_ms = day_ms
            client.update_dataset(dataset, ["default_table_expiration_ms"])
    if killed:
        bigquery.faults(Fault("tables.patch", status=403, reason="accessDenied"))
        with pytest.raises(WarehouseError):
            publish(lab.warehouse, "r1", 0, {"a": "ok"})
        bigquery.faults(Fault("tables.patch", status=403, reason="accessDenied", calls=(2,)))
        publish(lab.warehouse, "r1", 0, {"a": "ok"})
        with pytest.raises(WarehouseError):
            lab.warehouse.promote("r1", "results.tone", KEY, "upsert")
        bigquery.faults()
    publish(lab.warehouse, "r1", 0, {"a": "ok"})
    lab.warehouse.promote("r1", "results.tone", KEY, "upsert")
    bigquery.advance(2 * day_ms / 1000)
    assert stored(lab.warehouse, "run:r1") == stored(lab.warehouse, "results.tone") == {"a": ("ok", "a")}
    with open_client(lab.project) as client:
        output = client.get_table(f"{lab.project}.results.tone")
        output.expires = datetime.now(UTC) + timedelta(days=9)
        client.update_table(output, ["expires"])
        lab.warehouse.promote("r1", "results.tone", KEY, "upsert")
        assert client.get_table(f"{lab.project}.results.tone").expires is not None


def test_an_output_is_clustered_by_its_key_and_published_rows_by_slice(lab: BigQueryLab) -> None:
    """A merge reads less of it, a slice's counters only its own partition; what is temporary expires by itself."""
    lab.put("raw.texts", input_table(3))
    lab.warehouse.freeze(spec("r1", "raw.texts"))
    publish(lab.warehouse, "r1", 0, {"k00000": "ok"})
    lab.warehouse.promote("r1", "tone", KEY, "upsert")
    with open_client(lab.project) as client:
        output, out, work = (
            client.get_table(f"{lab.project}.tables.{name}")
            for name in ("tone", "batch_llm_out_r1", "batch_llm_work_r1")
        )
    assert output.clustering_fields == ["id"]
    assert out.range_partitioning.field == "llm_slice"
    assert work.range_partitioning.field == "_slice"
    assert work.expires is not None
    assert (out.expires, output.expires) == (None, None)
