"""What DuckDB says of a filter's functions."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm.warehouse.duckdb.database import Database
from batch_llm.warehouse.duckdb.filters import may_change


@pytest.fixture
def database(tmp_path: Path) -> Database:
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("CREATE TABLE texts AS SELECT 1 AS id, 'a' AS text, DATE '2026-01-01' AS due, 2 AS today")
        connection.execute("CREATE MACRO late(day) AS day < today()")
        connection.execute("CREATE MACRO doubled(number) AS 2 * number")
    return Database(tmp_path / "warehouse.duckdb", "256MB")


CHANGING = [
    "due <= now()",
    "due <= today()",
    "due <= current_date",
    "due <= CURRENT_DATE()",
    "due <= current_localtimestamp()",
    "due <= localtimestamp",
    "age(due) > INTERVAL 1 DAY",
    "random() < 0.5",
    "text = uuid()::VARCHAR",
    "text = session_user",
    "text = current_user",
    "id = getvariable('x')",
    "late(due)",
    "due > ago(INTERVAL 1 DAY)",
    "list_filter([due], lambda day: day > now()) = []",
    "CASE WHEN id = 1 THEN due < now() ELSE true END",
    "EXISTS (SELECT 1)",
]
STEADY = [
    "id > 1 -- now()",
    "text = 'now()'",
    "today = 2 AND TEXT = 'a'",
    "texts.today = 2",
    '"today" BETWEEN 1 AND 3',
    "doubled(id) = 2",
    "due < DATE '2026-02-01' - INTERVAL 1 DAY",
    "upper(text) LIKE 'A%' OR regexp_matches(text, 'a') OR text[1:2] = 'a' OR id IN (1, 2)",
]


@pytest.mark.parametrize("where", CHANGING)
def test_a_value_that_changes_is_found(database: Database, where: str) -> None:
    assert may_change(database, "texts", where)


@pytest.mark.parametrize("where", STEADY)
def test_a_filter_of_columns_and_steady_functions_stays(database: Database, where: str) -> None:
    assert not may_change(database, "texts", where)


@pytest.mark.parametrize(("where", "changes"), [("id > 1", False), ("due <= current_date", True)])
def test_of_a_file(database: Database, tmp_path: Path, where: str, changes: bool) -> None:
    pq.write_table(pa.table({"id": [1], "due": pa.array([0], pa.date32())}), tmp_path / "texts.parquet")
    assert may_change(database, str(tmp_path / "texts.parquet"), where) is changes


def test_every_function_of_duckdb_that_changes_is_known(database: Database) -> None:
    """By DuckDB's own list."""
    with database.scratch() as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability <> 'CONSISTENT'"
        ).fetchall()
    assert len(found) > 10
    assert all(may_change(database, "texts", f"{name}() IS NULL") for (name,) in found)
