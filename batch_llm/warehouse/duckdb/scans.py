"""Parquet, CSV and JSON lines as relations of a DuckDB connection: what it is told, and what it may not guess.

Belongs here: views over files that are known. Not here: finding files, and those that cannot be read as they are
(files.py); which type a column gets (column_types.py).
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import duckdb

from batch_llm.errors import InputError
from batch_llm.warehouse.duckdb.catalog import columns_of
from batch_llm.warehouse.duckdb.column_types import json_type, may_be_more_than_text, types_of_texts
from batch_llm.warehouse.duckdb.csv_text import delimiter
from batch_llm.warehouse.duckdb.folder_columns import Folders, added_columns
from batch_llm.warehouse.duckdb.names import literal, quoted
from batch_llm.warehouse.duckdb.statements import statement

__all__ = ["csv_view", "json_view", "parquet_view"]

_TEXTS = '"batch_llm_texts"'  # what the files hold, before their columns have types
_FIELDS_OF_A_MAP = 200  # DuckDB's own number: an object of more different fields, all of one type, is a map


def parquet_view(connection: duckdb.DuckDBPyConnection, view: str, paths: Sequence[Path], folders: Folders) -> None:
    """Files matched by the names of their columns; ``folders``: see `folder_values`. Raises `duckdb.Error`."""
    files = _listed(paths)
    own = columns_of(connection, f"({statement('scan_parquet', files=files, folders='')})") if folders else ()
    _view(connection, view, statement("scan_parquet", files=files, folders=added_columns(connection, folders, own)))


def csv_view(connection: duckdb.DuckDBPyConnection, view: str, paths: Sequence[Path], folders: Folders) -> None:
    """As `parquet_view`; they are read through for their types."""
    parts = {"files": _listed(paths), "delimiter": literal(delimiter(paths[0]))}
    own = list(columns_of(connection, f"({statement('scan_csv', **parts, folders='')})"))
    _view(connection, _TEXTS, statement("scan_csv", **parts, folders=added_columns(connection, folders, own)))
    _typed_view(connection, view, types_of_texts(connection, _TEXTS, own))


def json_view(
    connection: duckdb.DuckDBPyConnection, view: str, paths: Sequence[Path], folders: Folders, ref: str
) -> None:
    """As `csv_view`, of one object a line. Raises `InputError` for two fields of one name but for its case."""
    files = _listed(paths)
    detected = _json_columns(connection, files, _FIELDS_OF_A_MAP)
    if list(detected) == [
        "json"
    ]:  # a field of that name, or so many fields of one type that DuckDB takes the whole row for a map
        detected = _json_columns(connection, files, -1)
    uncertain = [column for column, found in detected.items() if may_be_more_than_text(found)]
    types = {column: "VARCHAR" if column in uncertain else json_type(found) for column, found in detected.items()}
    fields = ", ".join(f"{literal(column)}: {literal(type_name)}" for column, type_name in types.items())
    added = added_columns(connection, folders, detected)
    _view(connection, _TEXTS, statement("scan_json", files=files, columns=f"{{{fields}}}", folders=added))
    if list(detected) == ["json"]:  # or lines that are no objects, which fail here
        _values(connection, "json")
    _refuse_renamed(connection, ref, [column for column, found in detected.items() if found != '"NULL"'])
    _typed_view(connection, view, types_of_texts(connection, _TEXTS, uncertain))


def _json_columns(connection: duckdb.DuckDBPyConnection, files: str, fields_of_a_map: int) -> dict[str, str]:
    scan = statement("detect_json", files=files, fields_of_a_map=str(fields_of_a_map))
    return columns_of(connection, f"({scan})")


def _refuse_renamed(connection: duckdb.DuckDBPyConnection, ref: str, filled: list[str]) -> None:
    """Of the fields ``id`` and ``Id`` DuckDB calls the second ``Id_1``, which no line has."""
    known = {column.lower() for column in filled}
    for column in filled:
        name, _, number = column.rpartition("_")
        if number.isdigit() and name.lower() in known and not _values(connection, column):
            raise InputError(f"{ref}: two fields are called {name!r} but for upper and lower case; rename one")


def _values(connection: duckdb.DuckDBPyConnection, column: str) -> int:
    return int(connection.execute(f"SELECT count({quoted(column)}) FROM {_TEXTS}").fetchall()[0][0])


def _listed(paths: Sequence[Path]) -> str:
    # DuckDB would read a name with brackets as a pattern; the patterns are resolved already
    return "[" + ", ".join(literal(glob.escape(str(path))) for path in paths) + "]"


def _view(connection: duckdb.DuckDBPyConnection, name: str, query: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}").fetchall()


def _typed_view(connection: duckdb.DuckDBPyConnection, view: str, types: dict[str, str]) -> None:
    casts = [f"CAST({quoted(name)} AS {type_name}) AS {quoted(name)}" for name, type_name in types.items()]
    columns = f"* REPLACE ({', '.join(casts)})" if casts else "*"
    _view(connection, view, statement("select", columns=columns, source=_TEXTS, where="TRUE"))
