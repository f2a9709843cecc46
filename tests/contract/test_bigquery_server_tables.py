"""The fake BigQuery's datasets, tables and views, judged by the real client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud import bigquery

from tests.contract.bigquery_lab import BY_SLICE, DATASET, BigQueryLab, refused

# ---- datasets


def test_a_dataset_is_created_once(bq: BigQueryLab) -> None:
    with refused(Conflict, "duplicate", f"Already Exists: Dataset {bq.server.project}:{DATASET}"):
        bq.client.create_dataset(DATASET)
    assert bq.client.create_dataset(DATASET, exists_ok=True).dataset_id == DATASET


def test_a_dataset_keeps_what_it_was_given(bq: BigQueryLab) -> None:
    dataset = bigquery.Dataset(f"{bq.server.project}.eu")
    dataset.location, dataset.labels, dataset.description = "EU", {"team": "a"}, "words"
    bq.client.create_dataset(dataset)
    got = bq.client.get_dataset("eu")
    assert (got.location, got.labels, got.description) == ("EU", {"team": "a"}, "words")
    assert sorted(each.dataset_id for each in bq.client.list_datasets()) == [DATASET, "eu"]
    got.description = None
    assert bq.client.update_dataset(got, ["description"]).description is None


def test_a_dataset_is_changed_only_as_it_was_seen(bq: BigQueryLab) -> None:
    mine, theirs = bq.client.get_dataset(DATASET), bq.client.get_dataset(DATASET)
    theirs.description = "theirs"
    bq.client.update_dataset(theirs, ["description"])
    mine.description = "mine"
    with refused(PreconditionFailed, "conditionNotMet"):
        bq.client.update_dataset(mine, ["description"])


def test_a_dataset_that_is_not_there(bq: BigQueryLab) -> None:
    with refused(NotFound, "notFound", f"Not found: Dataset {bq.server.project}:none"):
        bq.client.get_dataset("none")
    with refused(NotFound, "notFound", "Not found: Dataset"):
        bq.client.create_table(f"{bq.server.project}.none.t")
    with refused(NotFound, "notFound", "Not found: Dataset"):
        bq.client.get_table(f"{bq.server.project}.none.t")


def test_a_dataset_with_tables_goes_only_when_told_so(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    with refused(BadRequest, "resourceInUse", "still in use"):
        bq.client.delete_dataset(DATASET)
    bq.client.delete_dataset(DATASET, delete_contents=True)
    bq.client.create_dataset(DATASET)
    assert list(bq.client.list_tables(DATASET)) == []


@pytest.mark.parametrize("name", ["with-dash", "with space", "ä"])
def test_a_dataset_has_letters_digits_and_underscores(bq: BigQueryLab, name: str) -> None:
    with refused(BadRequest, "invalid", "Invalid dataset ID"):
        bq.client.create_dataset(bigquery.Dataset.from_string(f"{bq.server.project}.{name}"))


# ---- tables


def test_a_table_is_created_once(bq: BigQueryLab) -> None:
    bq.create("t", "id INT64")
    with refused(Conflict, "duplicate", f"Already Exists: Table {bq.server.project}:{DATASET}.t"):
        bq.create("t", "id INT64")


def test_a_table_that_is_not_there(bq: BigQueryLab) -> None:
    for call in (bq.client.get_table, bq.client.delete_table):
        with refused(NotFound, "notFound", f"Not found: Table {bq.server.project}:{DATASET}.none"):
            call(bq.ref("none"))


def test_a_table_keeps_what_it_was_given(bq: BigQueryLab) -> None:
    bq.create(
        "t", "id INT64 REQUIRED", "slice INT64", "text STRING", labels={"a": "b"}, description="words",
        range_partitioning=BY_SLICE, clustering_fields=["text"],
    )  # fmt: skip
    table = bq.client.get_table(bq.ref("t"))
    assert [(each.name, each.field_type, each.mode) for each in table.schema] == [
        ("id", "INTEGER", "REQUIRED"), ("slice", "INTEGER", "NULLABLE"), ("text", "STRING", "NULLABLE"),
    ]  # fmt: skip
    assert (table.labels, table.description, table.clustering_fields) == ({"a": "b"}, "words", ["text"])
    assert table.range_partitioning == BY_SLICE
    assert (table.num_rows, table.num_bytes, table.location, table.table_type) == (0, 0, "US", "TABLE")


@pytest.mark.parametrize(
    "labels",
    [{"Upper": "a"}, {"a": "Upper"}, {"1a": "b"}, {"a.b": "c"}, {"a": "x" * 64}, {f"a{n}": "" for n in range(65)}],
    ids=["key", "value", "digit", "dot", "long", "many"],
)
def test_labels_are_short_and_small(bq: BigQueryLab, labels: dict[str, str]) -> None:
    with refused(BadRequest, "invalid", "abel"):
        bq.create("t", "id INT64", labels=labels)
    with refused(BadRequest, "invalid", "abel"):
        bq.query("SELECT 1", labels=labels)
    bq.create("t", "id INT64", labels={"key_1-a": "", "ü": "value_1-a"})


def test_a_description_has_16384_characters(bq: BigQueryLab) -> None:
    with refused(BadRequest, "invalid", "description is longer"):
        bq.create("t", "id INT64", description="x" * 16_385)
    bq.create("t", "id INT64", description="x" * 16_384)


def test_a_list_of_tables_comes_in_pages_and_tells_less(bq: BigQueryLab) -> None:
    """No numRows, etag, lastModifiedTime there: a caller that needs them asks `__TABLES__`."""
    for number in range(5):
        bq.create(f"t{number}", "id INT64", labels={"n": str(number)})
    found = list(bq.client.list_tables(DATASET, page_size=2))
    assert [(each.table_id, each.labels) for each in found] == [(f"t{n}", {"n": str(n)}) for n in range(5)]
    assert bq.operations().count("tables.list") == 3
    assert not {"numRows", "etag", "lastModifiedTime"} & set(found[0]._properties)
    with refused(NotFound, "notFound"):
        list(bq.client.list_tables("none"))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["id INT64", "ID STRING"], "Duplicate field name"),
        (["id NUMBER"], "not a valid value"),
        (["id INT64 SOMETIMES"], "not a valid value"),
        (["a.b INT64"], "Invalid field name"),
        (["r RECORD"], "has no schema"),
    ],
)
def test_a_schema_that_makes_no_sense(bq: BigQueryLab, columns: list[str], words: str) -> None:
    with refused(BadRequest, "invalid", words):
        bq.create("t", *columns)


@pytest.mark.parametrize(
    ("column", "properties", "words"),
    [
        ("other INT64", {"range_partitioning": BY_SLICE}, "cannot be found in the schema"),
        ("slice STRING", {"range_partitioning": BY_SLICE}, "does not fit"),
        ("day STRING", {"time_partitioning": bigquery.TimePartitioning(field="day")}, "does not fit"),
        ("day DATE", {"time_partitioning": bigquery.TimePartitioning("HOUR", field="day")}, "does not fit"),
        ("id INT64", {"clustering_fields": ["none"]}, "Invalid clustering"),
    ],
)
def test_a_table_that_cannot_be_cut_so(bq: BigQueryLab, column: str, properties: dict, words: str) -> None:
    with refused(BadRequest, "invalid", words):
        bq.create("t", column, **properties)


@pytest.mark.parametrize(("start", "end", "interval"), [(0, 0, 1), (0, 10, 0), (0, 10_001, 1)])
def test_a_range_has_sense_and_at_most_10000_parts(bq: BigQueryLab, start: int, end: int, interval: int) -> None:
    span = bigquery.PartitionRange(start=start, end=end, interval=interval)
    with refused(BadRequest, "invalid", "ange partitioning"):
        bq.create("t", "slice INT64", range_partitioning=bigquery.RangePartitioning(span, field="slice"))


# ---- changes


def test_each_change_gives_another_etag(bq: BigQueryLab) -> None:
    """A patch, a load, DML, DDL, insertAll: all of them."""
    bq.create("t", "id INT64")
    seen = [bq.client.get_table(bq.ref("t"))]

    def changed() -> None:
        seen.append(bq.client.get_table(bq.ref("t")))

    assert bq.client.get_table(bq.ref("t")).etag == seen[0].etag
    table = bq.client.get_table(bq.ref("t"))
    table.description = "words"
    bq.client.update_table(table, ["description"])
    changed()
    bq.load("t", pa.table({"id": [1]}))
    changed()
    bq.query("UPDATE d.t SET id = 2 WHERE TRUE")
    changed()
    bq.query("ALTER TABLE d.t SET OPTIONS (description = 'other')")
    changed()
    bq.client.insert_rows_json(bq.ref("t"), [{"id": 3}])
    changed()
    assert len({each.etag for each in seen}) == len(seen)
    assert [each.modified for each in seen] == sorted({each.modified for each in seen})


def test_a_table_is_changed_only_as_it_was_seen(bq: BigQueryLab) -> None:
    mine, theirs = bq.create("t", "id INT64"), bq.client.get_table(bq.ref("t"))
    theirs.description = "theirs"
    bq.client.update_table(theirs, ["description"])
    mine.description = "mine"
    with refused(PreconditionFailed, "conditionNotMet"):
        bq.client.update_table(mine, ["description"])
    assert bq.client.get_table(bq.ref("t")).description == "theirs"


def test_a_patch_changes_what_it_names(bq: BigQueryLab) -> None:
    table = bq.create("t", "id INT64", description="words", labels={"a": "b"})
    table.description = None
    table = bq.client.update_table(table, ["description"])
    assert (table.description, table.labels) == (None, {"a": "b"})


def test_columns_are_added_and_relaxed_never_dropped_or_retyped(bq: BigQueryLab) -> None:
    table = bq.create("t", "id INT64 REQUIRED", "text STRING")
    bq.load("t", pa.table({"id": [1], "text": ["a"]}), schema=table.schema)
    table = bq.client.get_table(table)
    table.schema = [*table.schema[1:], *table.schema[:1], bigquery.SchemaField("more", "STRING")]
    bq.client.update_table(table, ["schema"])
    assert bq.ask("SELECT id, text, more FROM d.t") == [(1, "a", None)]

    def patched(*columns: str) -> None:
        table = bq.client.get_table(bq.ref("t"))
        table.schema = [bigquery.SchemaField(*each.split()) for each in columns]
        bq.client.update_table(table, ["schema"])

    for columns, words in (
        (["id INT64 REQUIRED", "text STRING"], "Field more is missing in new schema"),
        (["id STRING REQUIRED", "text STRING", "more STRING"], "has changed type from INTEGER to STRING"),
        (["id INT64 REQUIRED", "text STRING REQUIRED", "more STRING"], "has changed mode from NULLABLE to REQUIRED"),
        (["id INT64", "text STRING", "more STRING", "new INT64 REQUIRED"], "Cannot add required fields"),
    ):
        with refused(BadRequest, "invalid", words):
            patched(*columns)
    patched("id INT64", "text STRING", "more STRING")
    assert {each.mode for each in bq.client.get_table(bq.ref("t")).schema} == {"NULLABLE"}


def test_a_partition_can_be_deleted(bq: BigQueryLab) -> None:
    bq.create("t", "slice INT64", range_partitioning=BY_SLICE)
    bq.load("t", pa.table({"slice": [1, 2, 2]}))
    bq.client.delete_table(bq.ref("t$2"))
    assert bq.rows("t") == [(1,)]
    with refused(BadRequest, "invalid", "names no partition"):
        bq.client.delete_table(bq.ref("t$99"))


# ---- expiry


def test_a_table_goes_when_its_time_is_over(bq: BigQueryLab) -> None:
    table = bq.create("t", "id INT64", expires=datetime.now(UTC) + timedelta(hours=1))
    assert bq.client.get_table(table).expires == table.expires
    bq.server.advance(3_601)
    with refused(NotFound, "notFound"):
        bq.client.get_table(table)
    with refused(NotFound, "notFound"):
        bq.ask("SELECT * FROM d.t")
    assert list(bq.client.list_tables(DATASET)) == []


def test_a_table_does_not_expire_before_it_is_there(bq: BigQueryLab) -> None:
    with refused(BadRequest, "invalid", "must be in the future"):
        bq.create("t", "id INT64", expires=datetime.now(UTC) - timedelta(hours=1))


def test_a_dataset_says_how_long_tables_live(bq: BigQueryLab) -> None:
    dataset = bq.client.get_dataset(DATASET)
    dataset.default_table_expiration_ms = 3_600_000
    bq.client.update_dataset(dataset, ["default_table_expiration_ms"])
    bq.create("by_api", "id INT64")
    bq.query("CREATE TABLE d.by_query AS SELECT 1 AS id")
    assert all(bq.client.get_table(bq.ref(name)).expires for name in ("by_api", "by_query"))
    bq.server.advance(3_601)
    assert list(bq.client.list_tables(DATASET)) == []


# ---- views


def test_a_view_is_read_by_queries_only(bq: BigQueryLab) -> None:
    bq.query("CREATE TABLE d.t AS SELECT 1 AS id UNION ALL SELECT 2")
    view = bigquery.Table(bq.ref("v"))
    view.view_query = "SELECT id * 10 AS tens FROM d.t WHERE id > 1"
    view = bq.client.create_table(view)
    assert (view.table_type, [each.name for each in view.schema]) == ("VIEW", ["tens"])
    assert bq.ask("SELECT * FROM d.v") == [(20,)]
    bq.query("INSERT INTO d.t VALUES (3)")
    assert bq.ask("SELECT * FROM d.v ORDER BY tens") == [(20,), (30,)]
    with refused(BadRequest, "invalid", "Cannot list a table of type VIEW"):
        list(bq.client.list_rows(view))
    with refused(BadRequest, "invalid", "currently a VIEW"):
        bq.load("v", pa.table({"tens": [1]}))
    with refused(BadRequest, "invalidQuery", "DML over a view"):
        bq.query("DELETE FROM d.v WHERE TRUE")


def test_an_external_table_tells_nothing_of_its_files(bq: BigQueryLab) -> None:
    """Neither rows nor bytes; it cannot be listed."""
    table = bigquery.Table(bq.ref("outside"), [bigquery.SchemaField("id", "INT64")])
    table.external_data_configuration = bigquery.ExternalConfig("PARQUET")
    bq.client.create_table(table)
    found = bq.client.get_table(bq.ref("outside"))
    assert (found.table_type, found.num_rows, found.num_bytes) == ("EXTERNAL", None, None)
    with refused(BadRequest, "invalid", "Cannot list a table of type EXTERNAL"):
        list(bq.client.list_rows(found))


def test_a_view_of_what_is_not_there(bq: BigQueryLab) -> None:
    view = bigquery.Table(bq.ref("v"))
    view.view_query = "SELECT * FROM d.none"
    with refused(NotFound, "notFound", "d.none"):
        bq.client.create_table(view)
