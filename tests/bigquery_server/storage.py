"""Rows: DuckDB tables that never change once written, and versions of a BigQuery table that are made of them.

Belongs here: writing rows down, counting them by partition, the SQL that reads a version. Not here: whose rows they
are (catalog.py), what may be written (loading.py, dml.py).
A job that changes one partition writes only that one, and what read an older version goes on reading it: that gives
atomic jobs, FOR SYSTEM_TIME AS OF and page tokens pinned to a version for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import farmhash
import pyarrow as pa

from tests.bigquery_server.errors import invalid_query
from tests.bigquery_server.schema import Field, Schema, quoted
from tests.bigquery_server.values import bignumeric_text

__all__ = [
    "PARTITION",
    "Part",
    "Segment",
    "Storage",
    "Version",
    "bytes_of",
    "bytes_of_row",
    "parts_only",
    "parts_without",
    "select_of",
    "whole",
]

PARTITION = "$partition"  # the column of every segment that says to which partition a row belongs
MACROS = Path(__file__).with_name("sql") / "macros.sql"
MEMORY_LIMIT = "1GB"

# Source: https://cloud.google.com/bigquery/pricing#data (read 2026-11-28)
FIXED_BYTES = {
    "BOOLEAN": 1, "DATE": 8, "DATETIME": 8, "FLOAT": 8, "INTEGER": 8, "NUMERIC": 16, "BIGNUMERIC": 32, "TIME": 8,
    "TIMESTAMP": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """Rows written by one job."""

    name: str  # of the DuckDB table
    columns: frozenset[str]  # in lower case
    rows: Mapping[str, int]  # by partition
    bytes: Mapping[str, int]  # by partition


@dataclass(frozen=True)
class Part:
    """What a version has of a segment."""

    segment: Segment
    partitions: frozenset[str]

    @property
    def rows(self) -> int:
        """How many."""
        return sum(self.segment.rows[each] for each in self.partitions)

    @property
    def bytes(self) -> int:
        """Of all columns."""
        return sum(self.segment.bytes[each] for each in self.partitions)


@dataclass(frozen=True)
class Version:
    """A table's rows from a moment on."""

    at_us: int
    schema: Schema
    parts: tuple[Part, ...] = ()

    @property
    def rows(self) -> int:
        """How many."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes(self) -> int:
        """Of all columns."""
        return sum(part.bytes for part in self.parts)

    def partitions(self) -> dict[str, tuple[int, int]]:
        """Rows and bytes of each partition that has rows."""
        found: dict[str, tuple[int, int]] = {}
        for part in self.parts:
            for each in part.partitions:
                rows, size = found.get(each, (0, 0))
                found[each] = (rows + part.segment.rows[each], size + part.segment.bytes[each])
        return found

    def without(self, partition: str) -> tuple[Part, ...]:
        """What is left when a partition goes."""
        return parts_without(self.parts, frozenset({partition}))

    def only(self, partition: str) -> tuple[Part, ...]:
        """One partition."""
        return parts_only(self.parts, frozenset({partition}))


class Storage:
    """One DuckDB; everything it does is done in one thread."""

    def __init__(self, spill: Path) -> None:
        """``spill``: the folder for what does not fit into memory."""
        config = {"memory_limit": MEMORY_LIMIT, "threads": 2, "temp_directory": str(spill)}
        self.connection = duckdb.connect(config=config)
        self.connection.execute("SET TimeZone='UTC'")
        self._numbers = count()
        self._function("fingerprint64", _fingerprints, [duckdb.type("BLOB")], duckdb.type("BIGINT"))
        self._function("bignumeric_text", _bignumerics, [duckdb.type("VARCHAR")], duckdb.type("VARCHAR"))
        self.connection.execute(MACROS.read_text(encoding="utf-8"))

    def _function(self, name: str, of_array: Callable[[Any], Any], takes: list[Any], gives: Any) -> None:
        self.connection.create_function(name, of_array, takes, gives, type="arrow")

    def name(self, kind: str) -> str:
        """A name nobody has."""
        return f"{kind}_{next(self._numbers)}"

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement of this server's own making."""
        return self.connection.execute(sql).fetchall()

    def describe(self, sql: str) -> tuple[list[str], list[Any]]:
        """The columns a query would give: names and DuckDB types."""
        relation = self.connection.sql(sql)
        return list(relation.columns), list(relation.types)

    def arrow(self, sql: str) -> pa.Table:
        """A query's rows."""
        return self.connection.sql(sql).to_arrow_table()

    @contextmanager
    def given(self, table: pa.Table) -> Iterator[str]:
        """A name under which SQL reads an Arrow table, until the end of the block."""
        name = self.name("given")
        self.connection.register(name, table)
        try:
            yield name
        finally:
            self.connection.unregister(name)

    @contextmanager
    def scratch(self, select: str) -> Iterator[str]:
        """A table that can be changed, holding what the query gives, until the end of the block."""
        name = self.name("scratch")
        self.run(f"CREATE TABLE {name} AS {select}")
        try:
            yield name
        finally:
            self.run(f"DROP TABLE {name}")

    def write(self, select: str, schema: Schema, partition: str = "''") -> Segment:
        """Write a query's rows down. Its columns are the schema's; ``partition`` is an expression over them."""
        name = self.name("segment")
        columns = ", ".join(f"CAST({quoted(each.name)} AS {each.duckdb}) AS {quoted(each.name)}" for each in schema)
        rows = f"SELECT {columns} FROM ({select})"
        self.run(f"CREATE TABLE {name} AS SELECT *, {partition} AS {quoted(PARTITION)} FROM ({rows})")
        return self._segment(name, schema)

    def compacted(self, version: Version) -> Version:
        """The same rows in the same order, in one segment.

        A hash join over hundreds of segments takes memory for each of them.
        """
        name = self.name("segment")
        self.run(f"CREATE TABLE {name} AS {select_of(version.parts, version.schema, partition=True)}")
        return replace(version, parts=whole(self._segment(name, version.schema)))

    def _segment(self, name: str, schema: Schema) -> Segment:
        sizes = self.run(
            f"SELECT {quoted(PARTITION)}, count(*), sum({bytes_of_row(schema)})::BIGINT FROM {name} GROUP BY 1"
        )
        rows = {partition: number for partition, number, _ in sizes}
        columns = frozenset(each.name.lower() for each in schema)
        return Segment(name, columns, rows, {partition: size for partition, _, size in sizes})

    def missing(self, segment: Segment, schema: Schema) -> Field | None:
        """A REQUIRED column of the segment that holds a NULL."""
        required = [each for each in schema if each.mode == "REQUIRED"]
        if not required:
            return None
        tests = ", ".join(f"count(*) FILTER (WHERE {quoted(each.name)} IS NULL)" for each in required)
        numbers = self.run(f"SELECT {tests} FROM {segment.name}")[0]
        return next((field for field, number in zip(required, numbers, strict=True) if number), None)


def whole(segment: Segment) -> tuple[Part, ...]:
    """All of a segment; nothing when it is empty."""
    return (Part(segment, frozenset(segment.rows)),) if segment.rows else ()


def parts_without(parts: Iterable[Part], partitions: frozenset[str]) -> tuple[Part, ...]:
    """What is left when these partitions go."""
    left = (Part(each.segment, each.partitions - partitions) for each in parts)
    return tuple(each for each in left if each.partitions)


def parts_only(parts: Iterable[Part], partitions: frozenset[str]) -> tuple[Part, ...]:
    """These partitions."""
    kept = (Part(each.segment, each.partitions & partitions) for each in parts)
    return tuple(each for each in kept if each.partitions)


def select_of(parts: Iterable[Part], schema: Schema, *, partition: bool = False) -> str:
    """The SQL that reads parts as a table with this schema: a column that a segment has not is NULL."""
    selects = [_select_of_part(part, schema, partition=partition) for part in parts]
    if not selects:
        columns = ", ".join(f"CAST(NULL AS {each.duckdb}) AS {quoted(each.name)}" for each in schema) or "1"
        hidden = f", '' AS {quoted(PARTITION)}" if partition else ""
        return f"SELECT {columns}{hidden} WHERE FALSE"
    return " UNION ALL ".join(selects)


def _select_of_part(part: Part, schema: Schema, *, partition: bool) -> str:
    columns = [
        quoted(each.name)
        if each.name.lower() in part.segment.columns
        else f"CAST(NULL AS {each.duckdb}) AS {quoted(each.name)}"
        for each in schema
    ]
    if partition:
        columns.append(quoted(PARTITION))
    sql = f"SELECT {', '.join(columns)} FROM {part.segment.name}"
    if len(part.partitions) == len(part.segment.rows):
        return sql
    excluded = set(part.segment.rows) - part.partitions
    some, word = (part.partitions, "IN") if len(part.partitions) <= len(excluded) else (excluded, "NOT IN")
    texts = ", ".join(f"'{each}'" for each in sorted(some))
    return f"{sql} WHERE {quoted(PARTITION)} {word} ({texts})"


# ---- sizes


def bytes_of_row(schema: Schema) -> str:
    """An expression: how many bytes BigQuery counts for the row."""
    return " + ".join(f"({bytes_of(each, quoted(each.name))})" for each in schema) or "0"


def bytes_of(field: Field, name: str) -> str:
    """An expression: how many bytes BigQuery counts for a value; 0 for NULL."""
    if field.mode == "REPEATED":
        return f"coalesce(list_sum(list_transform({name}, lambda each: {bytes_of(field.element, 'each')})), 0)"
    if field.type == "RECORD":
        inner = (bytes_of(each, f"struct_extract({name}, '{each.name}')") for each in field.fields)
        return reduce(lambda left, right: f"{left} + {right}", inner)
    if field.type in FIXED_BYTES:
        return f"CASE WHEN {name} IS NULL THEN 0 ELSE {FIXED_BYTES[field.type]} END"
    if field.type == "BYTES":
        return f"coalesce(2 + octet_length({name}), 0)"
    text = f"struct_extract({name}, '$geography')" if field.type == "GEOGRAPHY" else f"CAST({name} AS VARCHAR)"
    return f"coalesce(2 + strlen({text}), 0)"


# ---- functions DuckDB has not


def _fingerprints(values: pa.Array) -> pa.Array:
    """FARM_FINGERPRINT: FarmHash's Fingerprint64 as a signed number.

    Source (read 2026-11-28):
    https://cloud.google.com/bigquery/docs/reference/standard-sql/hash_functions#farm_fingerprint
    """
    hashes = (None if each is None else farmhash.fingerprint64(each) for each in values.to_pylist())
    return pa.array((None if each is None else each - (each >> 63 << 64) for each in hashes), pa.int64())


def _bignumerics(values: pa.Array) -> pa.Array:
    try:
        return pa.array([None if each is None else bignumeric_text(each) for each in values.to_pylist()], pa.string())
    except (ValueError, ArithmeticError) as error:
        raise invalid_query(f"Invalid BIGNUMERIC value: {error}") from error
