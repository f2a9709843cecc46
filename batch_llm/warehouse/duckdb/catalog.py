"""What stands in an open DuckDB database.

Belongs here: looking up tables, views, columns and keys. Not here: changing anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import duckdb

from batch_llm.warehouse.duckdb.names import TableName, literal
from batch_llm.warehouse.duckdb.statements import statement

__all__ = ["Entry", "columns_of", "find", "key_comment", "stored_key", "tables_and_views"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A table or view."""

    name: TableName
    is_view: bool
    comment: str | None


def tables_and_views(connection: duckdb.DuckDBPyConnection) -> list[Entry]:
    """All tables and views, by schema and name."""
    found = connection.execute(statement("catalog")).fetchall()
    return [Entry(TableName(schema, name), is_view, comment) for schema, name, is_view, comment in found]


def find(connection: duckdb.DuckDBPyConnection, name: TableName) -> Entry | None:
    """The table or view of this name; DuckDB does not tell upper from lower case."""
    wanted = (name.schema.lower(), name.table.lower())
    for entry in tables_and_views(connection):
        if (entry.name.schema.lower(), entry.name.table.lower()) == wanted:
            return entry
    return None


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    """Column names and DuckDB types of anything that may stand after FROM, in order."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}


def key_comment(key: tuple[str, ...]) -> str:
    """The comment that an output table carries: whose it is, and by which key, as an SQL literal."""
    return literal(json.dumps({"made_by": "batch_llm", "key": list(key)}))


def stored_key(comment: str | bytes | None) -> tuple[str, ...] | None:
    """The key in such a comment; None when it is somebody else's."""
    try:
        read = json.loads(comment or "null")
        return tuple(read["key"]) if read["made_by"] == "batch_llm" else None
    except (ValueError, TypeError, KeyError):
        return None
