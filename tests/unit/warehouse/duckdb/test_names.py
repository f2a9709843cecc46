"""Names and their quoting."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.errors import InputError, WarehouseError
from batch_llm.warehouse.duckdb.names import TableName, literal, live_name, quoted, run_table
from batch_llm.warehouse.refs import is_file, nearest

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@given(name=texts, value=texts)
def test_any_name_and_any_text_mean_themselves(name: str, value: str) -> None:
    """Whatever quotes, brackets or keywords they hold."""
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {literal(value)} AS {quoted(name)}")
        assert found.description is not None
        assert found.description[0][0] == name
        assert found.fetchall() == [(value,)]


@pytest.mark.parametrize(
    ("ref", "expected"),
    [("t", TableName("main", "t")), ("raw.t 1", TableName("raw", "t 1")), ('a"b', TableName("main", 'a"b'))],
)
def test_tables_have_a_schema(ref: str, expected: TableName) -> None:
    assert TableName.parse(ref, InputError) == expected
    assert expected.ref == ref


@pytest.mark.parametrize("ref", ["", "a.b.c", ".t", "raw.", "raw. "])
def test_what_is_no_table_name_is_refused(ref: str) -> None:
    with pytest.raises(InputError, match="neither a table"):
        TableName.parse(ref, InputError)


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "a b", "-a", "a.b"])
def test_a_run_id_leads_nowhere_else(run_id: str) -> None:
    with pytest.raises(WarehouseError, match="run id"):
        run_table(run_id)


def test_files_are_told_from_tables() -> None:
    assert all(is_file(ref) for ref in ("a.parquet", "A.CSV", "dir/x", "/abs/*.jsonl", "x.arrow", "x.feather"))
    assert not any(is_file(ref) for ref in ("t", "raw.t", "raw.reports_*"))


def test_the_live_view_is_named_after_the_output() -> None:
    assert live_name("tone").ref == "tone__live"
    assert live_name("results.tone").ref == "results.tone__live"
    assert live_name("/out/beige tone.parquet").ref == "beige tone__live"


def test_the_nearest_name_ignores_case_and_stays_silent_when_far() -> None:
    assert nearest("Report_ID", ["report_id", "text"]) == "; the nearest name is 'report_id'"
    assert nearest("zzz", ["report_id", "text"]) == ""
