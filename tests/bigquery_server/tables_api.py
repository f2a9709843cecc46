"""Calls on tables: insert, get, list, patch, update, delete.

Belongs here: these calls. Not here: rows (rows_api.py).
Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables (read 2026-11-28).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.catalog import DatasetRef, Table, TableRef
from tests.bigquery_server.errors import ApiError, already_exists, invalid
from tests.bigquery_server.paging import paged
from tests.bigquery_server.parameters import Parameters
from tests.bigquery_server.partitions import partitioning_from_json
from tests.bigquery_server.preconditions import check_etag
from tests.bigquery_server.resources import TABLE_PROPERTIES, said_of, table_item, table_json
from tests.bigquery_server.schema import Field, Schema, schema_from_json
from tests.bigquery_server.state import State
from tests.bigquery_server.statements import Reading, parsed
from tests.bigquery_server.storage import Version

__all__ = ["delete", "get", "insert", "list_all", "patch", "ref_of"]


def ref_of(call: Call) -> TableRef:
    """The table of the call's path, which may have a partition."""
    table, _, partition = call.path["table"].partition("$")
    return TableRef(call.path["project"], call.path["dataset"], table, partition or None)


def insert(state: State, call: Call) -> Reply:
    """tables.insert: a table or a view."""
    body = call.json
    ref = TableRef(
        call.path["project"], call.path["dataset"], str((body.get("tableReference") or {}).get("tableId", ""))
    )
    dataset = state.catalog.dataset(ref.parent)
    if state.catalog.find(ref) is not None:
        raise already_exists("Table", str(ref))
    state.modifications.count_metadata(ref, state.limits)
    view = (body.get("view") or {}).get("query")
    if view and body["view"].get("useLegacySql", True):
        raise ApiError(
            "notImplemented", "This fake of BigQuery has views of GoogleSQL only: useLegacySql must be false"
        )
    schema = _view_schema(state, ref, dataset.location, view) if view else schema_from_json(body.get("schema"))
    partitioning = partitioning_from_json(body)
    if partitioning is not None:
        partitioning.against(schema)
    clustering = tuple((body.get("clustering") or {}).get("fields") or ())
    _check_clustering(schema, clustering)
    properties = said_of(body, TABLE_PROPERTIES)
    _check_expiration(state, properties)
    now_ms = state.clock.now_ms()
    version = Version(state.clock.now_us(), schema)
    made = Table(ref, dataset.location, now_ms, now_ms, (version,), partitioning, clustering, properties, view)
    return _reply(state, state.catalog.add_table(made))


def _view_schema(state: State, ref: TableRef, location: str, query: str) -> Schema:
    reading = Reading(state, ref.project, location, None, Parameters(()))
    return reading.describe(reading.sql(parsed(query)[0]))


def _check_clustering(schema: Schema, clustering: tuple[str, ...]) -> None:
    known = {each.name.lower() for each in schema}
    missing = next((each for each in clustering if each.lower() not in known), None)
    if missing is not None or len(clustering) > 4:
        raise invalid(f"Invalid clustering: at most 4 columns, each of the schema: {missing or len(clustering)}")


def _check_expiration(state: State, properties: Mapping[str, Any]) -> None:
    expires_ms = properties.get("expirationTime")
    if expires_ms is not None and int(expires_ms) <= state.clock.now_ms():
        raise invalid("Invalid value for: Expiration time must be in the future.", "expirationTime")


def get(state: State, call: Call) -> Reply:
    """tables.get."""
    return _reply(state, state.catalog.table(ref_of(call)))


def list_all(state: State, call: Call) -> Reply:
    """tables.list."""
    ref = DatasetRef(call.path["project"], call.path["dataset"])
    state.catalog.dataset(ref)
    found = list(state.catalog.tables_of(ref))
    page, token = paged(call, found)
    told: dict[str, Any] = {
        "kind": "bigquery#tableList",
        "tables": [table_item(each) for each in page],
        "totalItems": len(found),
    }
    return Reply(told | ({"nextPageToken": token} if token else {}))


def patch(state: State, call: Call) -> Reply:
    """tables.patch and tables.update: null takes a property away; the schema may grow and become laxer."""
    table = state.catalog.table(ref_of(call))
    state.modifications.count_metadata(table.ref, state.limits)
    check_etag(call, table.etag)
    body = call.json
    kept = {key: value for key, value in table.properties.items() if key not in body}
    properties = kept | said_of(body, TABLE_PROPERTIES)
    _check_expiration(state, said_of(body, ("expirationTime",)))
    changed = replace(table, properties=properties)
    if "clustering" in body:
        clustering = tuple((body["clustering"] or {}).get("fields") or ())
        _check_clustering(table.schema, clustering)
        changed = replace(changed, clustering=clustering)
    if table.view is not None and body.get("view"):
        query = body["view"]["query"]
        schema = _view_schema(state, table.ref, table.location, query)
        return _reply(state, state.catalog.commit(replace(changed, view=query), (), schema, frozenset()))
    if body.get("schema") is None or table.view is not None:
        return _reply(state, state.catalog.put(changed))
    schema = _grown(table, schema_from_json(body["schema"]))
    return _reply(state, state.catalog.commit(changed, table.now.parts, schema, frozenset()))


def _grown(table: Table, given: Schema) -> Schema:
    """Columns may be added (not REQUIRED), REQUIRED may become NULLABLE; nothing may go or change its type.

    Source: https://cloud.google.com/bigquery/docs/managing-table-schemas (read 2026-11-28).
    """
    new = {each.name.lower(): each for each in given}
    for has in table.schema:
        field = new.pop(has.name.lower(), None)
        if field is None:
            raise _mismatch(table, f"Field {has.name} is missing in new schema")
        _check_field(table, has, field)
    required = next((each for each in new.values() if each.mode == "REQUIRED"), None)
    if required is not None:
        raise _mismatch(table, f"Cannot add required fields to an existing schema. (field: {required.name})")
    return given


def _check_field(table: Table, has: Field, field: Field) -> None:
    if has.type != field.type:
        raise _mismatch(table, f"Field {has.name} has changed type from {has.type} to {field.type}")
    if has.mode != field.mode and (has.mode, field.mode) != ("REQUIRED", "NULLABLE"):
        raise _mismatch(table, f"Field {has.name} has changed mode from {has.mode} to {field.mode}")
    if has.fields != field.fields:
        raise _mismatch(table, f"Field {has.name}: this fake of BigQuery does not change the fields of a RECORD")


def _mismatch(table: Table, what: str) -> ApiError:
    return invalid(f"Provided Schema does not match Table {table.ref}. {what}")


def delete(state: State, call: Call) -> Reply:
    """tables.delete: the table, or one partition of it."""
    ref = ref_of(call)
    table = state.catalog.table(ref)
    if ref.partition is None:
        state.catalog.tables.pop(ref)
        return Reply(status=204)
    if table.partitioning is None:
        raise invalid(f"Cannot delete partition {ref}: {ref.whole} is not partitioned.")
    table.partitioning.check(ref.partition, str(ref.whole))
    state.catalog.commit(table, table.now.without(ref.partition), table.schema, frozenset({ref.partition}))
    return Reply(status=204)


def _reply(state: State, table: Table) -> Reply:
    return Reply(table_json(table, state.clock.now_ms()))
