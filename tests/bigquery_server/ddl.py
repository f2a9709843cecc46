"""CREATE, DROP, ALTER of tables, views and schemas.

Belongs here: what DDL says of a table. Not here: rows that CREATE TABLE AS SELECT writes (writing.py).
Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb
from sqlglot import exp

from tests.bigquery_server.billing import bill
from tests.bigquery_server.catalog import Dataset, DatasetRef, Table, TableRef
from tests.bigquery_server.errors import already_exists, invalid_query, not_found
from tests.bigquery_server.functions import types_rewritten
from tests.bigquery_server.jobs import Job, Result
from tests.bigquery_server.partitions import Partitioning, checked_range
from tests.bigquery_server.permissions import need_dataset, need_table
from tests.bigquery_server.resources import check_labels
from tests.bigquery_server.schema import Field, Schema, quoted, schema_to_json, type_of_duckdb
from tests.bigquery_server.statements import Reading, anonymous, duckdb_errors, table_ref
from tests.bigquery_server.storage import Version
from tests.bigquery_server.writing import Target, write_rows

__all__ = ["run"]

TEXTS = {"description": "description", "friendly_name": "friendlyName"}
Finish = Callable[[], None]


def run(reading: Reading, job: Job, statement: Any, *, dry: bool) -> None:
    """Do a DDL statement, or only find out whether it can be done."""
    kind = str(statement.args.get("kind") or "TABLE").upper()
    if isinstance(statement, exp.Alter):
        _alter(reading, job, statement, dry=dry)
    elif isinstance(statement, exp.Drop):
        _drop(reading, job, statement, kind, dry=dry)
    elif kind == "SCHEMA":
        _create_schema(reading, job, statement, dry=dry)
    elif kind in ("TABLE", "VIEW"):
        _create(reading, job, statement, kind, dry=dry)
    else:
        raise invalid_query(f"Unknown to this fake of BigQuery: CREATE {kind}")
    job.result = job.result or Result((), None)


def _done(job: Job, ref: TableRef | None, operation: str, kind: str) -> None:
    job.statistics |= {"statementType": kind, "ddlOperationPerformed": operation}
    job.statistics.setdefault("totalBytesProcessed", "0")
    job.statistics.setdefault("totalBytesBilled", "0")
    job.totals.setdefault("totalBytesProcessed", "0")
    if ref is not None:
        named = {"projectId": ref.project, "datasetId": ref.dataset, "tableId": ref.table}
        job.statistics["ddlTargetTable"] = named


# ---- schemas


def _schema_ref(reading: Reading, node: Any) -> DatasetRef:
    parts = [each for part in node.parts for each in str(part.name).split(".") if each]
    return DatasetRef(".".join(parts[:-1]) or reading.project, parts[-1])


def _create_schema(reading: Reading, job: Job, statement: Any, *, dry: bool) -> None:
    catalog = reading.state.catalog
    ref = _schema_ref(reading, statement.this)
    if ref in catalog.datasets:
        if not statement.args.get("exists"):
            raise already_exists("Dataset", str(ref))
        _done(job, None, "SKIP", "CREATE_SCHEMA")
        return
    said = _options(reading, statement)
    location = next((each.this.name for each in statement.find_all(exp.LocationProperty)), None)
    place = str(location or said.pop("location", None) or reading.location or reading.state.settings.default_location)
    if not dry:
        now_ms = reading.state.clock.now_ms()
        catalog.add_dataset(Dataset(ref, place, now_ms, now_ms, said))
    _done(job, None, "CREATE", "CREATE_SCHEMA")


# ---- tables and views


def _create(reading: Reading, job: Job, statement: Any, kind: str, *, dry: bool) -> None:
    node = statement.this.this if isinstance(statement.this, exp.Schema) else statement.this
    ref = table_ref(node, reading)
    dataset = reading.state.catalog.dataset(ref.parent)
    reading.location = reading.location or dataset.location
    if dataset.location.lower() != reading.location.lower():
        raise not_found("Dataset", f"{ref.parent} was not found in location {reading.location}")
    what = f"CREATE_{kind}" + ("_AS_SELECT" if kind == "TABLE" and statement.expression is not None else "")
    found = reading.state.catalog.find(ref)
    if found is not None and statement.args.get("exists"):
        _done(job, ref, "SKIP", what)
        return
    if found is not None and not statement.args.get("replace"):
        raise already_exists("Table", str(ref))
    need_dataset(reading.state, "bigquery.tables.create", str(ref.parent))
    if not dry:
        reading.state.modifications.count_metadata(ref, reading.state.limits)
    target = _target(reading, statement, ref, dataset)
    finish = (_view if kind == "VIEW" else _table)(reading, job, statement, target)
    if not dry:
        if found is not None:
            reading.state.catalog.tables.pop(ref)  # a job that fails puts the catalog back (running.py)
        finish()
    _done(job, ref, "REPLACE" if found is not None else "CREATE", what)


def _target(reading: Reading, statement: Any, ref: TableRef, dataset: Dataset) -> Target:
    partitioning = _partitioning(reading, statement)
    cluster = statement.find(exp.ClusterProperty)
    clustering = tuple(each.name for each in cluster.expressions) if cluster is not None else ()
    declared = _declared(statement.this) if isinstance(statement.this, exp.Schema) else ()
    options = _options(reading, statement)
    days = options.pop("partition_expiration_days", None)
    if partitioning is not None and days is not None:
        partitioning = replace(partitioning, expiration_ms=str(round(float(days) * 86_400_000)))
    return Target(ref, None, "WRITE_TRUNCATE", dataset.location, declared, partitioning, clustering, options)


def _view(reading: Reading, job: Job, statement: Any, target: Target) -> Finish:
    sql = reading.sql(statement.expression)
    schema = reading.describe(sql)
    _done(job, target.ref, "CREATE", "CREATE_VIEW")

    def finish() -> None:
        now_ms, now_us = reading.state.clock.now_ms(), reading.state.clock.now_us()
        text, said = statement.expression.sql("bigquery"), target.properties or {}
        made = Table(
            target.ref,
            target.location,
            now_ms,
            now_ms,
            (Version(now_us, schema),),
            None,
            (),
            said,
            text,
        )
        reading.state.catalog.add_table(made)

    return finish


def _table(reading: Reading, job: Job, statement: Any, target: Target) -> Finish:
    if statement.expression is None:
        if not target.schema:
            raise invalid_query("CREATE TABLE requires column definitions or AS SELECT")
        return _empty_table(reading, target)
    selects = getattr(statement.expression, "selects", [])
    if any(anonymous(each) for each in selects) and not target.schema:
        raise invalid_query("CREATE TABLE columns must be named")
    sql = reading.sql(statement.expression)
    given = reading.describe(sql)
    bill(reading, job, statement.expression, "CREATE_TABLE_AS_SELECT")
    job.statistics["schema"] = schema_to_json(given)
    schema = target.schema or given
    if len(schema) != len(given):
        raise invalid_query(f"The number of columns in the definition list does not match the query: {len(given)}")
    if target.partitioning is not None:
        target.partitioning.against(schema)

    def finish() -> None:
        names = ", ".join(quoted(each.name) for each in schema)
        with duckdb_errors():
            write_rows(
                reading.state, replace(target, schema=schema), f"SELECT * FROM ({sql}) AS result({names})", schema
            )
        table = reading.state.catalog.table(target.ref)
        job.statistics["ddlDestinationRows"] = str(table.now.rows)

    return finish


def _empty_table(reading: Reading, target: Target) -> Finish:
    if target.partitioning is not None:
        target.partitioning.against(target.schema)

    def finish() -> None:
        now_ms, now_us = reading.state.clock.now_ms(), reading.state.clock.now_us()
        made = Table(
            target.ref, target.location, now_ms, now_ms, (Version(now_us, target.schema),), target.partitioning,
            target.clustering, target.properties or {},
        )  # fmt: skip
        reading.state.catalog.add_table(made)

    return finish


def _declared(node: exp.Schema) -> Schema:
    return tuple(_column(each) for each in node.expressions if isinstance(each, exp.ColumnDef))


def _column(node: exp.ColumnDef) -> Field:
    field = type_of_duckdb(node.name, duckdb.type(types_rewritten(node.args["kind"].copy()).sql("duckdb")))
    constraints = [each.args["kind"] for each in node.args.get("constraints") or ()]
    if any(isinstance(each, exp.NotNullColumnConstraint) for each in constraints):
        field = replace(field, mode="REQUIRED")
    described = [
        each.args["value"].name
        for constraint in constraints
        for each in constraint.find_all(exp.Property)
        if each.name == "description"
    ]
    return replace(field, extra=(("description", described[0]),)) if described else field


def _partitioning(reading: Reading, statement: Any) -> Partitioning | None:
    found = statement.find(exp.PartitionedByProperty)
    if found is None:
        return None
    by = found.this
    if isinstance(by, exp.RangeBucket):
        series = by.expression
        ends = [_number(each) for each in (series.args["start"], series.args["end"], series.args.get("step"))]
        return checked_range(Partitioning(by.this.name, None, ends[0], ends[1], ends[2]))
    name = by.name if isinstance(by, exp.Identifier | exp.Column) else by.this.name
    unit = by.args.get("unit")
    if name.upper() in ("_PARTITIONDATE", "_PARTITIONTIME"):
        return Partitioning(None, str(unit.name).upper() if unit is not None else "DAY")
    return Partitioning(name, str(unit.name).upper() if unit is not None else "DAY")


def _number(node: Any) -> int:
    if node is None:
        return 1
    if isinstance(node, exp.Neg):
        return -int(node.this.name)
    if not isinstance(node, exp.Literal):
        raise invalid_query("PARTITION BY RANGE_BUCKET takes GENERATE_ARRAY of constants")
    return int(node.name)


def _options(reading: Reading, statement: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in statement.find_all(exp.Property):
        name = each.name.lower()
        if type(each) is not exp.Property or each.find_ancestor(exp.ColumnDef) is not None:
            continue
        value = each.args["value"]
        if name == "expiration_timestamp":
            null = isinstance(value, exp.Null)
            found["expirationTime"] = None if null else str(reading.moment_us(value) // 1000)
        elif name == "labels":
            found["labels"] = {pair.expressions[0].name: pair.expressions[1].name for pair in value.expressions}
            check_labels(found["labels"])
        elif name == "require_partition_filter":
            found["requirePartitionFilter"] = str(value).upper() == "TRUE"
        elif name in TEXTS:
            found[TEXTS[name]] = None if isinstance(value, exp.Null) else value.name
        elif name in ("location", "partition_expiration_days", "default_table_expiration_days"):
            found[name] = value.name
        else:
            raise invalid_query(f"Unknown option: {name}")
    return {key: value for key, value in found.items() if value is not None or isinstance(statement, exp.Alter)}


# ---- DROP, ALTER


def _drop(reading: Reading, job: Job, statement: Any, kind: str, *, dry: bool) -> None:
    catalog, node = reading.state.catalog, statement.args["tables"][0]
    if kind == "SCHEMA":
        ref = _schema_ref(reading, node)
        if ref not in catalog.datasets and not statement.args.get("exists"):
            raise not_found("Dataset", str(ref))
        if ref in catalog.datasets and not statement.args.get("cascade") and any(catalog.tables_of(ref)):
            raise invalid_query(f"Dataset {ref} is still in use")
        if not dry and ref in catalog.datasets:
            catalog.drop_dataset(ref)
        _done(job, None, "DROP", "DROP_SCHEMA")
        return
    table = table_ref(node, reading)
    found = catalog.find(table)
    if found is None and not statement.args.get("exists"):
        catalog.dataset(table.parent)
        raise not_found("Table", str(table))
    if found is not None and (found.view is not None) != (kind == "VIEW"):
        raise invalid_query(f"Cannot drop {table}: it is not a {kind}")
    if found is not None:
        need_table(reading.state, "bigquery.tables.delete", str(table))
    if found is not None and not dry:
        reading.state.modifications.count_metadata(table, reading.state.limits)
        catalog.tables.pop(table)
    _done(job, table, "DROP" if found is not None else "SKIP", f"DROP_{kind}")


def _alter(reading: Reading, job: Job, statement: Any, *, dry: bool) -> None:
    table = reading.find(table_ref(statement.this, reading))
    schema, properties = table.schema, dict(table.properties)
    for action in statement.args["actions"]:
        if isinstance(action, exp.ColumnDef):
            schema = _with_column(schema, action, table)
        elif isinstance(action, exp.AlterSet):
            properties |= _options(reading, statement)
        else:
            raise invalid_query(f"Unknown to this fake of BigQuery: ALTER TABLE .. {action.sql('bigquery')[:100]}")
    kept = {key: value for key, value in properties.items() if value is not None}
    if not dry:
        reading.state.modifications.count_metadata(table.ref, reading.state.limits)
        changed = replace(table, properties=kept)
        if schema == table.schema:
            reading.state.catalog.put(changed)
        else:
            reading.state.catalog.commit(changed, table.now.parts, schema, frozenset())
    _done(job, table.ref, "REPLACE", "ALTER_TABLE")


def _with_column(schema: Schema, action: exp.ColumnDef, table: Table) -> Schema:
    if any(each.name.lower() == action.name.lower() for each in schema):
        if action.args.get("exists"):
            return schema
        raise invalid_query(f"Column already exists: {action.name} in {table.ref}")
    field = _column(action)
    if field.mode == "REQUIRED":
        raise invalid_query("Cannot add required fields to an existing schema.")
    return (*schema, field)
