"""Earlier answers for a run's input, found once for all its slices.

Belongs here: joining the frozen keys with what earlier runs left. Not here: what is done with the answers
(engine/prior.py). A scan of the output per slice would cost slices times its size; one per place and run costs it once,
into a table of the run with one partition per slice, which is then listed for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.base import FrozenInput
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.frozen_table import MOST_SLICES, SLICE, column_name
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.listing import Listing
from batch_llm.warehouse.bigquery.marks import mark, read_mark
from batch_llm.warehouse.bigquery.names import TableName, literal, quoted
from batch_llm.warehouse.bigquery.schema import answers_schema, type_word
from batch_llm.warehouse.bigquery.statements import statement
from batch_llm.warehouse.refs import RUN_PLACE

__all__ = ["drop_prior", "place_of", "prior", "prior_statement", "same_value"]

_PARTITION = "batch_llm_slice"  # an answer's column may be called anything else


def prior(jobs: Jobs, frozen: FrozenInput, number: int, place: TableName) -> Iterator[pa.RecordBatch]:
    """The finished rows of a place with the keys of a slice; none where it is not there, or has another key."""
    found = _found(jobs, frozen, place)
    return iter(()) if found is None else _Found(found, number).batches(jobs.connection)


def place_of(connection: Connection, place: str) -> TableName:
    """The table of an output, or of a run's published slices (run:<run_id>)."""
    if place.startswith(RUN_PLACE):
        return connection.dataset.out(place.removeprefix(RUN_PLACE))
    return connection.dataset.named(place, OutputError)


def _found(jobs: Jobs, frozen: FrozenInput, place: TableName) -> bigquery.Table | None:
    """The run's table of what one place holds; made by the first slice that asks."""
    connection = jobs.connection
    name = connection.dataset.prior(frozen.run_id, place)
    made = connection.table(name)
    if made is not None:
        return made
    sql = prior_statement(connection, frozen, place)
    if sql is None:
        return None
    jobs.run(Query("prior", sql, chain=name.table, run=(frozen.run_id, None)))
    return connection.table(name)


def prior_statement(connection: Connection, frozen: FrozenInput, place: TableName) -> str | None:
    """What finds a place's rows for a run; None when it holds none that could be of use."""
    present = connection.table(place)
    if present is None or not present.num_rows:
        return None
    work = connection.table(connection.dataset.work(frozen.run_id))
    if work is None:
        raise WarehouseError(
            f"the frozen input of run {frozen.run_id} is gone from BigQuery (its tables are kept for "
            f"{connection.options.work_days:g} days), so earlier answers cannot be found and would be paid again; "
            "forget the run and start a new one"
        )
    same = _same_key(work, present, frozen.key)
    if same is None:
        return None
    sizes = {field.name: field.description for field in present.schema if field.description}
    parts = {
        "prior": connection.dataset.prior(frozen.run_id, place).sql,
        "partition": _PARTITION,
        "slice": SLICE,
        "most_slices": str(MOST_SLICES),
        "mark": literal(mark(prior=place.path, sizes=sizes)),
        "kept_minutes": str(_kept_minutes(work, connection.options.work_days)),
        "work": connection.dataset.work(frozen.run_id).sql,
        "present": place.sql,
        "same_key": same,
    }
    return statement("prior", **parts)


def _kept_minutes(work: bigquery.Table, days: float) -> int:
    """As long as the frozen input was to be kept: of a plan that was killed nothing stays for long."""
    kept = timedelta(days=days) if work.expires is None else work.expires - work.created
    return max(1, round(kept / timedelta(minutes=1)))


def _same_key(work: bigquery.Table, present: bigquery.Table, key: Sequence[str]) -> str | None:
    """When a row of the place has a key of the input; None when it cannot."""
    there = {field.name.lower(): field for field in present.schema}
    asked = {field.name: field for field in work.schema}
    if "llm_status" not in there:
        return None
    conditions = []
    for place, column in enumerate(key):
        field, frozen = there.get(column.lower()), asked[column_name(place)]
        if field is None or type_word(field) != type_word(frozen):
            return None
        conditions.append(same_value(f"llm_present.{quoted(column)}", f"llm_frozen.{column_name(place)}", frozen))
    return " AND ".join(conditions)


def same_value(left: str, right: str, field: bigquery.SchemaField) -> str:
    """Equality of two key values: NaN is itself, as everywhere else in the product."""
    if type_word(field) == "FLOAT64":
        return f"CAST({left} AS STRING) = CAST({right} AS STRING)"
    return f"{left} = {right}"


@dataclass(frozen=True, slots=True)
class _Found:
    """One slice's part of such a table."""

    table: bigquery.Table
    number: int

    def batches(self, connection: Connection) -> Iterator[pa.RecordBatch]:
        sizes = (read_mark(self.table.description) or {}).get("sizes", {})
        fields = [
            bigquery.SchemaField(
                each.name, each.field_type, each.mode, description=sizes.get(each.name), fields=each.fields
            )
            for each in self.table.schema
            if each.name != _PARTITION
        ]
        columns = tuple(field.name for field in fields)
        return Listing(self.table, columns, self.number, schema=answers_schema(fields)).batches(connection)


def drop_prior(connection: Connection, run_id: str) -> None:
    """Drop what was found for a run."""
    begin = connection.dataset.prior_prefix(run_id)
    for name in connection.own_names(begin):
        connection.drop(name)
