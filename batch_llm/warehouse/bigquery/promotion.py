"""Promotion: a run's published rows into the output table, all or nothing.

Belongs here: the one MERGE of a run. Not here: whether the output can take the rows (outputs.py), which row
takes the place of which (output_rules.py), files as outputs (warehouse.py hands them to ``files``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from google.cloud import bigquery

from batch_llm.errors import OutputError, WarehouseError
from batch_llm.warehouse.base import Mode, Published
from batch_llm.warehouse.bigquery.answers import answer
from batch_llm.warehouse.bigquery.jobs import JobFailed, Jobs, Query
from batch_llm.warehouse.bigquery.marks import mark
from batch_llm.warehouse.bigquery.names import TableName, quoted
from batch_llm.warehouse.bigquery.outputs import fitted
from batch_llm.warehouse.bigquery.prior import same_value
from batch_llm.warehouse.bigquery.publishing import required_out
from batch_llm.warehouse.bigquery.schema import kind_of
from batch_llm.warehouse.bigquery.statements import statement
from batch_llm.warehouse.output_rules import GIVES_WAY, IS_THE_SAME

__all__ = ["holds", "promote"]

# Source: https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types (read 2026-11-28)
_CLUSTERED = {"BIGNUMERIC", "BOOL", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP"}
_MOST_CLUSTERED = 4


def promote(jobs: Jobs, run_id: str, table: str, key: Sequence[str], mode: Mode) -> Published:
    """See `Warehouse.promote`. Repeating it costs a second MERGE, and changes nothing."""
    connection = jobs.connection
    incoming = required_out(connection, run_id)
    name = connection.dataset.named(table, OutputError)
    fit = partial(fitted, connection, name, table, incoming.schema, tuple(key))
    present = fit()
    if present is None:
        connection.make(_new_output(name, incoming, key))
        present = fit()  # another run, that began before there was an output, may have made it meanwhile
    if present is None:
        raise _dropped(name)
    if not present.num_rows:  # with rows in it an expiry is its owner's will; before, a killed promotion left it
        connection.keep(present)
    parts = _parts(connection.dataset.out(run_id), incoming, name, present, key)
    sql = statement("promote", **parts, gives_way=GIVES_WAY[mode], others=_OTHERS if mode == "replace" else "")
    _merge(jobs, Query(f"promote_{mode}", sql, chain=f"{run_id}-promote", run=(run_id, None)))
    promoted = connection.table(name)
    if promoted is None:
        raise _dropped(name)
    return Published(promoted.num_rows or 0, connection.dataset.ref(name))


def holds(jobs: Jobs, run_id: str, table: str, key: Sequence[str], mode: Mode) -> bool:
    """See `Warehouse.holds`. It reads the keys and three columns of both."""
    connection = jobs.connection
    name, out = connection.dataset.named(table, OutputError), connection.dataset.out(run_id)
    present, incoming = connection.table(name), connection.table(out)
    if present is None or incoming is None:
        return False
    if not incoming.num_rows and mode != "replace":
        return True
    parts = {
        "present": name.sql,
        "incoming": out.sql,
        "same_key": _same_key(incoming, key),
        "gives_way": GIVES_WAY[mode],
        "same": IS_THE_SAME,
        "others": "TRUE" if mode == "replace" else "FALSE",
    }
    query = Query("compare_output", statement("differing", **parts), run=(run_id, None))
    return bool(answer(jobs, query).column(0)[0].as_py() == 0)


_OTHERS = "WHEN NOT MATCHED BY SOURCE THEN DELETE"  # replace: the output holds exactly the run's keys


def _merge(jobs: Jobs, query: Query) -> None:
    """Run it, again while it collides with the promotions of other runs: repeated, it changes nothing more."""
    colliding = jobs.connection.patience.begin()
    while True:
        try:
            jobs.run(query)
        except JobFailed as error:
            if not error.failure.collides:
                raise
            colliding.pause_or_raise(f"BigQuery, {query.name}", error.failure)
        else:
            return


def _dropped(name: TableName) -> WarehouseError:
    return WarehouseError(f"output {name.path} was dropped while it was written; run the job again")


def _new_output(name: TableName, incoming: bigquery.Table, key: Sequence[str]) -> bigquery.Table:
    """An output without rows, with the run's columns, clustered by the key: a MERGE then reads less of it."""
    table = bigquery.Table(name.path, schema=list(incoming.schema))
    by_name = {field.name: field for field in incoming.schema}
    clustered = [column for column in key if kind_of(by_name[column]) in _CLUSTERED]
    table.clustering_fields = clustered[:_MOST_CLUSTERED] or None
    table.description = mark(key=list(key))
    return table


def _parts(
    out: TableName, incoming: bigquery.Table, name: TableName, present: bigquery.Table, key: Sequence[str]
) -> dict[str, str]:
    come = {field.name.lower(): field for field in incoming.schema}
    columns = [quoted(field.name) for field in incoming.schema]
    updates = [f"{column} = llm_incoming.{column}" for column in columns]
    # columns that only the output has: an earlier run's answer must not stand beside this one's
    updates += [
        f"{quoted(field.name)} = {'[]' if field.mode == 'REPEATED' else 'NULL'}"
        for field in present.schema
        if field.name.lower() not in come
    ]
    return {
        "present": name.sql,
        "incoming": out.sql,
        "same_key": _same_key(incoming, key),
        "updates": ", ".join(updates),
        "columns": ", ".join(columns),
        "values": ", ".join(f"llm_incoming.{column}" for column in columns),
    }


def _same_key(incoming: bigquery.Table, key: Sequence[str]) -> str:
    come = {field.name.lower(): field for field in incoming.schema}
    pairs = [
        (f"llm_present.{quoted(column)}", f"llm_incoming.{quoted(column)}", come[column.lower()]) for column in key
    ]
    return " AND ".join(same_value(*pair) for pair in pairs)
