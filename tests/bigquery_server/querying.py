"""Query jobs: one statement or several, each with its statistics and, for a SELECT, rows to be read.

Belongs here: what kind of statement, destination tables, dry runs. Not here: changing rows (dml.py), tables (ddl.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#jobconfigurationquery (read 2026-11-28).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from tests.bigquery_server import ddl, dml
from tests.bigquery_server.billing import bill
from tests.bigquery_server.catalog import DatasetRef, TableRef
from tests.bigquery_server.errors import ApiError, invalid_query
from tests.bigquery_server.jobs import Job, Result
from tests.bigquery_server.parameters import Parameters
from tests.bigquery_server.partitions import partitioning_from_json
from tests.bigquery_server.schema import Schema, quoted, schema_to_json
from tests.bigquery_server.state import State
from tests.bigquery_server.statements import Reading, duckdb_errors, parsed
from tests.bigquery_server.storage import Version, whole
from tests.bigquery_server.writing import open_target, write_rows

__all__ = ["location_of_query", "reading_of", "run_query"]

DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.TruncateTable)
DDL = (exp.Create, exp.Drop, exp.Alter)


def reading_of(state: State, job: Job) -> Reading:
    """The surroundings of a job's query."""
    said = job.configuration["query"]
    if said.get("useLegacySql", True):
        raise ApiError("notImplemented", "This fake of BigQuery speaks GoogleSQL only: useLegacySql must be false")
    default = said.get("defaultDataset")
    dataset = DatasetRef(default.get("projectId", job.ref.project), default["datasetId"]) if default else None
    return Reading(
        state, job.ref.project, job.ref.location or None, dataset, Parameters(said.get("queryParameters") or ())
    )


def run_query(state: State, job: Job, *, dry: bool = False) -> None:
    """Do the work of a query job, or only find out what it would be."""
    said = job.configuration["query"]
    statements = parsed(str(said.get("query") or ""))
    if len(statements) > 1 or isinstance(statements[0], exp.Transaction):
        _run_script(state, job, statements, dry=dry)
        return
    _run_statement(state, job, statements[0], dry=dry)


def _run_script(state: State, job: Job, statements: list[exp.Expression], *, dry: bool) -> None:
    """Statements in order; BEGIN TRANSACTION .. COMMIT TRANSACTION all or nothing.

    Source: https://cloud.google.com/bigquery/docs/transactions (read 2026-11-28): a script that fails inside a
    transaction rolls it back.
    """
    before = None
    processed = 0
    try:
        for statement in statements:
            if isinstance(statement, exp.Transaction):
                before = state.catalog.snapshot()
            elif isinstance(statement, exp.Commit):
                before = None
            elif isinstance(statement, exp.Rollback):
                if before is None:
                    raise invalid_query("There is no transaction to roll back")
                state.catalog.restore(before)
                before = None
            else:
                _run_statement(state, job, statement, dry=dry)
                processed += int(job.totals.get("totalBytesProcessed", 0))
    except ApiError:
        if before is not None:
            state.catalog.restore(before)
        raise
    if before is not None:
        state.catalog.restore(before)
    job.statistics |= {"statementType": "SCRIPT", "totalBytesProcessed": str(processed)}
    job.totals |= {"totalBytesProcessed": str(processed), "numChildJobs": str(len(statements))}


def _run_statement(state: State, job: Job, statement: exp.Expression, *, dry: bool) -> None:
    reading = reading_of(state, job)
    with state.catalog.atomic():
        if isinstance(statement, DML):
            dml.run(reading, job, statement, dry=dry)
        elif isinstance(statement, DDL):
            ddl.run(reading, job, statement, dry=dry)
        elif isinstance(statement, exp.Query):
            _select(reading, job, statement, dry=dry)
        else:
            raise invalid_query(f"Unknown to this fake of BigQuery: {statement.sql('bigquery')[:200]}")


def _select(reading: Reading, job: Job, statement: exp.Expression, *, dry: bool) -> None:
    sql = reading.sql(statement)
    schema = reading.describe(sql)
    bill(reading, job, statement, "SELECT")
    job.statistics["schema"] = schema_to_json(schema)
    if dry:
        return
    said = job.configuration["query"]
    if said.get("destinationTable"):
        job.result = _into_table(reading.state, job, sql, schema)
        return
    with duckdb_errors():
        segment = reading.state.storage.write(f"SELECT * FROM ({sql}) AS result({_names(schema)})", schema)
    version = Version(reading.state.clock.now_us(), schema, whole(segment))
    anonymous = {"projectId": job.ref.project, "datasetId": "_anonymous", "tableId": f"anon_{job.ref.job_id}"}
    said["destinationTable"] = anonymous
    job.result = Result(schema, version, anonymous)


def _names(schema: Schema) -> str:
    return ", ".join(quoted(each.name) for each in schema)


def _into_table(state: State, job: Job, sql: str, schema: Schema) -> Result:
    said = job.configuration["query"]
    target = open_target(state, TableRef.of(said["destinationTable"]), said, default="WRITE_EMPTY")
    target = target.with_schema(schema, partitioning_from_json(said), said)
    with duckdb_errors():
        write_rows(state, target, f"SELECT * FROM ({sql}) AS result({_names(schema)})", schema)
    now = state.catalog.table(target.ref).now
    parts = now.only(target.ref.partition) if target.ref.partition else now.parts
    return Result(now.schema, replace(now, parts=parts), said["destinationTable"])


def location_of_query(state: State, job: Job) -> str | None:
    """Where the datasets of a query are; None when it names none."""
    said: dict[str, Any] = job.configuration["query"]
    for statement in parsed(str(said.get("query") or "")):
        for node in statement.find_all(exp.Table):
            parts = [each for part in node.parts for each in str(part.name).split(".")]
            for ref in (DatasetRef(job.ref.project, parts[0]), DatasetRef(parts[0], parts[1] if parts[1:] else "")):
                if ref in state.catalog.datasets:
                    return state.catalog.datasets[ref].location
    return None
