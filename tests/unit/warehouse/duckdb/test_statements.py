"""The SQL files and the conditions of users."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import batch_llm.warehouse.duckdb as package
from batch_llm.errors import OutputError
from batch_llm.warehouse.duckdb.statements import condition, reason, statement

FOLDER = Path(package.__file__).parent


def test_every_statement_is_used_and_there() -> None:
    """No file without a caller, no call without a file."""
    words = {
        node.value
        for path in FOLDER.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    files = {path.stem for path in FOLDER.glob("sql/*.sql")}
    scans = {name for name in files if name.startswith("scan_")}  # named by format
    assert scans == {"scan_csv", "scan_json", "scan_parquet"}
    assert files - scans <= words


def test_a_statement_takes_its_parts() -> None:
    assert statement("delete_slice", table='"a"."b"') == 'DELETE FROM "a"."b" WHERE llm_slice = ?\n'
    with pytest.raises(KeyError):
        statement("delete_slice")


@pytest.mark.parametrize("where", ["a > 1", "a > 1 -- really", "a IN (SELECT 1)", "a = ';'", "/* c */ a", "a = ')'"])
def test_a_condition_is_enclosed(where: str) -> None:
    assert condition(where, OutputError, "where") == f"(\n{where}\n)"


@pytest.mark.parametrize("where", ["", " ", "a; b", "a) OR (b", "a ORDER BY b", "a = '", "a /*", "SELECT 1", ");--"])
def test_what_is_more_or_less_than_a_condition_is_refused(where: str) -> None:
    with pytest.raises(OutputError, match=r"input\.where"):
        condition(where, OutputError, "input.where")


def test_a_reason_is_one_line_and_holds_no_long_text() -> None:
    text = reason(Exception("Conversion Error: Could not convert string '" + "secret " * 100 + "' to INT\n\nLINE 1: ^"))
    assert len(text) < 120
    assert "\n" not in text
