"""Load jobs: Parquet and newline-delimited JSON into a table or one partition of it, all or nothing.

Belongs here: dispositions, what a file's schema and the table's have to do with each other, the rows of the file.
Not here: how the bytes came (uploads.py).
Sources (read 2026-11-28): https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet,
https://cloud.google.com/bigquery/docs/managing-partitioned-table-data,
https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationload
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bigquery_server.catalog import TableRef
from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.files_schema import arrow_of, inferred_from_json, inferred_from_parquet, refuse_other_types
from tests.bigquery_server.jobs import Job
from tests.bigquery_server.partitions import partitioning_from_json
from tests.bigquery_server.schema import Schema, quoted, schema_from_json
from tests.bigquery_server.state import State
from tests.bigquery_server.values import parsed_row
from tests.bigquery_server.writing import open_target, write_rows

__all__ = ["run_load"]


def run_load(state: State, job: Job) -> None:
    """Do the work of a load job."""
    said = job.configuration["load"]
    ref = TableRef.of(said.get("destinationTable"))
    source = str(said.get("sourceFormat", "CSV"))
    if source not in READERS:
        raise ApiError(
            "notImplemented", f"This fake of BigQuery loads Parquet and newline-delimited JSON, not {source}"
        )
    given = schema_from_json(said.get("schema"))
    schema = given or _schema_of(state, ref, source, job)
    target = open_target(state, ref, said, default="WRITE_APPEND")
    target = target.with_schema(schema, partitioning_from_json(said), said)
    with READERS[source](state, job.data, target.writes(schema), said) as rows:
        written = write_rows(state, target, rows, target.writes(schema))
    job.statistics = {
        "inputFiles": "1",
        "inputFileBytes": str(len(job.data)),
        "outputRows": str(sum(written.rows.values())),
        "outputBytes": str(sum(written.bytes.values())),
        "badRecords": "0",
    }


def _schema_of(state: State, ref: TableRef, source: str, job: Job) -> Schema:
    """The file's own, when the request has none."""
    if source == "PARQUET":
        return inferred_from_parquet(_parquet(job.data).schema_arrow, lists=_lists(job.configuration["load"]))
    found = state.catalog.find(ref)
    if found is not None and not job.configuration["load"].get("autodetect"):
        return found.schema
    if not job.configuration["load"].get("autodetect"):
        raise invalid("No schema specified on job or table.")
    return inferred_from_json(list(_lines(job.data, state.limits.row_bytes)))


# ---- Parquet


def _parquet(data: bytes) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(io.BytesIO(data))
    except pa.ArrowException as error:
        raise invalid(
            f"Error while reading data, error message: Input file is not in Parquet format. {error}"
        ) from error


def _lists(said: Mapping[str, Any]) -> bool:
    return bool((said.get("parquetOptions") or {}).get("enableListInference"))


@contextmanager
def _parquet_rows(state: State, data: bytes, schema: Schema, said: Mapping[str, Any]) -> Iterator[str]:
    """The SQL that reads the file's rows, columns in the schema's order; a column the file has not is NULL."""
    file = _parquet(data)
    found = inferred_from_parquet(file.schema_arrow, lists=_lists(said))
    refuse_other_types(found, schema)
    has = {each.name.lower(): each.name for each in found}
    with state.storage.given(_readable(file.read())) as name:
        columns = (
            f"{_converted(has[each.name.lower()], found, each)} AS {quoted(each.name)}"
            if each.name.lower() in has
            else f"CAST(NULL AS {each.duckdb}) AS {quoted(each.name)}"
            for each in schema
        )
        yield f"SELECT {', '.join(columns)} FROM {name}"


def _readable(table: pa.Table) -> pa.Table:
    """DuckDB knows no decimals of more than 38 digits: they come as text."""
    for place, field in enumerate(table.schema):
        if pa.types.is_decimal256(field.type):
            text = table.column(place).cast(pa.string())
            table = table.set_column(place, field.name, text)
    return table


def _converted(name: str, found: Schema, wanted: Any) -> str:
    has = next(each for each in found if each.name == name)
    if has.type == "RECORD" and [each.name for each in has.fields] == ["list"]:
        inside = f'list_transform({quoted(name)}, lambda each: struct_pack("element" := each))'
        return f'CASE WHEN {quoted(name)} IS NULL THEN NULL ELSE struct_pack("list" := {inside}) END'
    if wanted.type in ("BIGNUMERIC", "GEOGRAPHY") and has.type != "RECORD" and wanted.mode != "REPEATED":
        key = f"${wanted.type.lower()}"
        text = f"CAST({quoted(name)} AS VARCHAR)"
        text = f"bignumeric_text({text})" if wanted.type == "BIGNUMERIC" else text
        return f'CASE WHEN {quoted(name)} IS NULL THEN NULL ELSE struct_pack("{key}" := {text}) END'
    return quoted(name)


# ---- newline-delimited JSON


def _lines(data: bytes, most_bytes: int) -> Iterator[Any]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        if len(line) > most_bytes:
            raise invalid(f"JSON row {number} is larger than {most_bytes} bytes.")
        try:
            yield orjson.loads(line.replace(b"NaN", b'"NaN"') if b":NaN" in line.replace(b" ", b"") else line)
        except orjson.JSONDecodeError as error:
            told = (
                f"Error while reading data, error message: JSON parsing error in row starting at line {number}: {error}"
            )
            raise invalid(told) from error


@contextmanager
def _json_rows(state: State, data: bytes, schema: Schema, said: Mapping[str, Any]) -> Iterator[str]:
    ignore = bool(said.get("ignoreUnknownValues"))
    rows = [parsed_row(each, schema, ignore_unknown=ignore) for each in _lines(data, state.limits.row_bytes)]
    with state.storage.given(pa.Table.from_pylist(rows, arrow_of(schema))) as name:
        yield f"SELECT * FROM {name}"


READERS = {"PARQUET": _parquet_rows, "NEWLINE_DELIMITED_JSON": _json_rows}
