"""What a user's filter depends on besides the input.

Belongs here: telling whether it may choose other rows of the same input. Not here: whether it is valid (statements.py).
DuckDB says of each function whether its value changes. What it cannot be asked about counts as changing: a run that
freezes once too often asks nothing again, one that freezes too rarely misses rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import duckdb

from batch_llm.warehouse.duckdb.database import Database
from batch_llm.warehouse.duckdb.sources import opened
from batch_llm.warehouse.duckdb.statements import statement

__all__ = ["may_change"]

# they look at the clock, though DuckDB (2.0.0) calls them consistent: `age` of one argument counts until today
_OF_THE_CLOCK = ("age", "current_localtime", "current_localtimestamp")
_MACRO = "macro"


def may_change(database: Database, ref: str, where: str) -> bool:
    """See `Warehouse.may_change`."""
    with opened(database, ref) as source:
        return _depends(source.connection, where, source.columns)


def _depends(connection: duckdb.DuckDBPyConnection, expression: str, names: Collection[str]) -> bool:
    """Whether an expression depends on more than these ``names``, columns or parameters."""
    text = connection.execute(statement("parsed"), [f"SELECT (\n{expression}\n)"]).fetchall()[0][0]
    parsed = json.loads(text)
    if parsed.get("error"):
        return True
    known, functions = {name.lower() for name in names}, set()
    for node in _nodes(parsed):
        if node.get("class") == "SUBQUERY":  # of a table whose version nobody looks at
            return True
        if node.get("class") == "COLUMN_REF":
            column = node["column_names"]
            if len(column) == 1 and column[0].lower() not in known:  # current_date and the like stand without brackets
                return True
        if node.get("function_name"):
            functions.add(str(node["function_name"]).lower())
    return any(_changes(connection, name) for name in sorted(functions))


def _nodes(parsed: Any) -> Iterator[dict[str, Any]]:
    if isinstance(parsed, dict):
        yield parsed
        parsed = list(parsed.values())
    if isinstance(parsed, list):
        for part in parsed:
            yield from _nodes(part)


def _changes(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    if name in _OF_THE_CLOCK:
        return True
    found = connection.execute(statement("functions"), [name]).fetchall()
    return not found or any(
        _depends(connection, definition, parameters) if kind == _MACRO else stability not in ("CONSISTENT", None)
        for kind, stability, definition, parameters in found
    )
