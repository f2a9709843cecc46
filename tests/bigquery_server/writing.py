"""Writing rows into a table or one partition of it, as load, query and copy jobs do: dispositions, schemas, commit.

Belongs here: what the three kinds of job have in common. Not here: where the rows come from.
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/Job (createDisposition, writeDisposition,
schemaUpdateOptions; read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.bigquery_server.catalog import Table, TableRef
from tests.bigquery_server.errors import ApiError, already_exists, invalid, not_found
from tests.bigquery_server.partitions import Partitioning
from tests.bigquery_server.permissions import need_dataset, need_table
from tests.bigquery_server.schema import Field, Schema
from tests.bigquery_server.state import State
from tests.bigquery_server.storage import Part, Segment, Version, whole

__all__ = ["Target", "check_partitions", "commit_parts", "open_target", "write_rows"]

WRITES = ("WRITE_APPEND", "WRITE_TRUNCATE", "WRITE_TRUNCATE_DATA", "WRITE_EMPTY")
CREATES = ("CREATE_IF_NEEDED", "CREATE_NEVER")


@dataclass(frozen=True)
class Target:
    """Where rows go, and what happens to those that are there."""

    ref: TableRef
    table: Table | None  # None: it will be created
    disposition: str
    location: str
    schema: Schema = ()  # of the table after the job
    partitioning: Partitioning | None = None
    clustering: tuple[str, ...] = ()
    properties: Mapping[str, Any] | None = None  # of a table that will be created

    def writes(self, given: Schema) -> Schema:
        """The columns that rows are written with: the table's, as far as they were given."""
        names = {each.name.lower() for each in given}
        return tuple(each for each in self.schema if each.name.lower() in names)

    def with_schema(self, given: Schema, partitioning: Partitioning | None, said: Mapping[str, Any]) -> Target:
        """The target once the schema of the rows is known; refuses one that does not go with the table's."""
        clustering = tuple((said.get("clustering") or {}).get("fields") or ())
        if self.table is None:
            if self.ref.partition is not None and partitioning is None:
                partitioning = Partitioning(None, "DAY")  # Source: the same page, destinationTable with a decorator
            if partitioning is not None:
                partitioning.against(given)
                self._check_decorator(partitioning)
            return replace(self, schema=given, partitioning=partitioning, clustering=clustering)
        if partitioning is not None and partitioning != self.table.partitioning:
            raise invalid(f"Incompatible table partitioning specification for {self.ref.whole}.")
        self._check_decorator(self.table.partitioning)
        # a table made without columns takes those of its first rows
        fresh = not self.table.schema
        whole_table = fresh or (self.disposition == "WRITE_TRUNCATE" and self.ref.partition is None)
        schema = given if whole_table else merged(self.table, given, tuple(said.get("schemaUpdateOptions") or ()))
        if self.table.partitioning is not None:
            self.table.partitioning.against(schema)
        return replace(
            self, schema=schema, partitioning=self.table.partitioning, clustering=clustering or self.table.clustering
        )

    def _check_decorator(self, partitioning: Partitioning | None) -> None:
        if self.ref.partition is None:
            return
        if partitioning is None:
            raise invalid(f"Cannot write to partition {self.ref}: {self.ref.whole} is not partitioned.")
        partitioning.check(self.ref.partition, str(self.ref.whole))


def open_target(state: State, ref: TableRef, said: Mapping[str, Any], *, default: str) -> Target:
    """The target of a job's configuration; counts the modification."""
    disposition = str(said.get("writeDisposition") or default)
    create = str(said.get("createDisposition") or "CREATE_IF_NEEDED")
    if disposition not in WRITES or create not in CREATES:
        raise invalid(f"Invalid value for writeDisposition or createDisposition: {disposition}, {create}")
    dataset = state.catalog.dataset(ref.parent)
    table = state.catalog.find(ref)
    state.modifications.count(ref, table, state.limits)
    if table is None:
        need_dataset(state, "bigquery.tables.create", str(ref.parent))
    need_table(state, "bigquery.tables.updateData", str(ref.whole))
    if table is None and create == "CREATE_NEVER":
        raise not_found("Table", str(ref.whole))
    if table is not None and table.view is not None:
        raise invalid(f"{ref.whole} is not allowed for this operation because it is currently a VIEW.")
    if table is not None and disposition == "WRITE_EMPTY" and _rows_there(table, ref):
        raise already_exists("Table", str(ref))
    return Target(ref, table, disposition, dataset.location)


def _rows_there(table: Table, ref: TableRef) -> int:
    parts = table.now.parts if ref.partition is None else table.now.only(ref.partition)
    return sum(part.rows for part in parts)


# ---- schemas


def merged(table: Table, given: Schema, options: tuple[str, ...]) -> Schema:
    """The table's schema after rows with the given one; what is not allowed to change is an error."""
    known = {each.name.lower(): each for each in given}
    after = [_merged_field(table, each, known.pop(each.name.lower(), None), options) for each in table.schema]
    for name, field in known.items():
        if "ALLOW_FIELD_ADDITION" not in options:
            raise _mismatch(table, f"Cannot add fields (field: {field.name})")
        if field.mode == "REQUIRED":
            raise _mismatch(table, f"Cannot add required fields to an existing schema. (field: {name})")
        after.append(field)
    return tuple(after)


def _merged_field(table: Table, has: Field, given: Field | None, options: tuple[str, ...]) -> Field:
    relaxes = "ALLOW_FIELD_RELAXATION" in options
    if given is None:
        if has.mode == "REQUIRED" and not relaxes:
            raise _mismatch(table, f"Field {has.name} is missing in new schema")
        return replace(has, mode="NULLABLE") if has.mode == "REQUIRED" else has
    if given.type != has.type:
        raise _mismatch(table, f"Field {has.name} has changed type from {has.type} to {given.type}")
    if has.type == "RECORD":
        _same_fields(table, has, given)
    if given.mode == has.mode:
        return has
    if (has.mode, given.mode) == ("REQUIRED", "NULLABLE") and relaxes:
        return replace(has, mode="NULLABLE")
    raise _mismatch(table, f"Field {has.name} has changed mode from {has.mode} to {given.mode}")


def _same_fields(table: Table, has: Field, given: Field) -> None:
    mine = [(each.name.lower(), each.type) for each in has.fields]
    theirs = [(each.name.lower(), each.type) for each in given.fields]
    if mine != theirs:
        raise _mismatch(table, f"Field {has.name} has changed: its fields are other ones")


def _mismatch(table: Table, what: str) -> ApiError:
    return invalid(f"Provided Schema does not match Table {table.ref}. {what}")


# ---- rows


def write_rows(state: State, target: Target, select: str, schema: Schema) -> Segment:
    """Write a query's rows (of this schema) into the target, or raise and leave it as it was."""
    partition = "''"
    if target.partitioning is not None:
        partition = target.partitioning.expression(state.clock.now())
        if target.partitioning.column is None and target.ref.partition is not None:
            partition = f"'{target.ref.partition}'"
    written = state.storage.write(select, schema, partition)
    _refuse_nulls(state, target, written)
    stray = set(written.rows) - {target.ref.partition}
    if target.ref.partition is not None and stray:
        raise invalid(f"Some rows belong to different partitions rather than destination partition {target.ref}")
    commit_parts(state, target, whole(written), frozenset(written.rows))
    return written


def _refuse_nulls(state: State, target: Target, written: Segment) -> None:
    absent = next(
        (each for each in target.schema if each.mode == "REQUIRED" and each.name.lower() not in written.columns), None
    )
    empty = state.storage.missing(written, tuple(each for each in target.schema if each != absent))
    field = absent if absent is not None and written.rows else empty
    if field is not None:
        raise invalid(f"Required field {field.name} cannot be null", field.name)


def commit_parts(state: State, target: Target, parts: tuple[Part, ...], changed: frozenset[str]) -> Table:
    """Make parts the target's rows, by its disposition."""
    table = target.table or _created(state, target)
    if target.disposition in ("WRITE_TRUNCATE", "WRITE_TRUNCATE_DATA"):
        old = () if target.ref.partition is None else table.now.without(target.ref.partition)
        changed |= {target.ref.partition} if target.ref.partition else frozenset(table.now.partitions())
    else:
        old = table.now.parts
    check_partitions(state, table, old + parts, changed)
    if target.table is None:
        table = state.catalog.add_table(table)
    return state.catalog.commit(replace(table, clustering=target.clustering), old + parts, target.schema, changed)


def _created(state: State, target: Target) -> Table:
    now_ms = state.clock.now_ms()
    return Table(
        target.ref.whole, target.location, now_ms, now_ms, (Version(state.clock.now_us(), target.schema),),
        target.partitioning, target.clustering, dict(target.properties or {}),
    )  # fmt: skip


def check_partitions(state: State, table: Table, parts: tuple[Part, ...], changed: frozenset[str]) -> None:
    """Refuse a job that changes too many partitions, or leaves the table with too many."""
    if table.partitioning is None:
        return
    limits, number = state.limits, len({each for part in parts for each in part.partitions})
    if len(changed) > limits.partitions_per_job:
        raise ApiError(
            "quotaExceeded",
            f"Too many partitions produced by query, allowed {limits.partitions_per_job}, query produces at least "
            f"{len(changed)} partitions",
        )
    if number > limits.partitions_per_table:
        raise ApiError(
            "quotaExceeded", f"Too many partitions in {table.ref}: {number}, allowed {limits.partitions_per_table}"
        )
