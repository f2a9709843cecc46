"""Which tables start a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from batch_llm.warehouse.base import TableInfo
from sensors.watch import STARTS_MAX, Seen, changed_version, due_tables, is_settled

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(ref: str, version: str = "1", age_s: float = 60, rows: int | None = None) -> TableInfo:
    return TableInfo(ref, version, rows, None, NOW - timedelta(seconds=age_s), None)


def refs(seen: Seen, tables: list[TableInfo], *, on_changed: bool = False) -> list[str]:
    return [one.ref for one in due_tables(seen, tables, on_changed=on_changed, now=NOW)]


def test_a_new_table_starts_a_run_once() -> None:
    tables = [table("raw.a"), table("raw.b")]
    assert refs(Seen({}), tables) == ["raw.a", "raw.b"]
    assert refs(Seen({}).with_tables(tables), tables) == []


def test_a_changed_table_counts_only_where_asked_for() -> None:
    seen = Seen({"raw.a": "1"})
    assert refs(seen, [table("raw.a", "2")]) == []
    assert refs(seen, [table("raw.a", "2")], on_changed=True) == ["raw.a"]


def test_a_new_table_waits_for_its_first_rows() -> None:
    """It would start a run over nothing, and with on: new never again; a change to nothing is a change."""
    assert refs(Seen({}), [table("raw.a", rows=0)]) == []
    assert refs(Seen({}), [table("raw.a", rows=1)]) == ["raw.a"]
    assert refs(Seen({"raw.a": "1"}), [table("raw.a", "2", rows=0)], on_changed=True) == ["raw.a"]


def test_a_file_that_is_still_written_waits() -> None:
    assert refs(Seen({}), [table("/raw/a.csv", age_s=1)]) == []
    assert is_settled(table("/raw/a.csv", age_s=10), NOW)


def test_a_tick_starts_a_bounded_number_and_the_next_goes_on() -> None:
    tables = [table(f"raw.t{number:03d}") for number in range(STARTS_MAX + 5)]
    first = due_tables(Seen({}), tables, on_changed=False, now=NOW)
    second = due_tables(Seen({}).with_tables(first), tables, on_changed=False, now=NOW)
    assert (len(first), len(second)) == (STARTS_MAX, 5)


def test_the_cursor_survives_being_stored() -> None:
    seen = Seen({"raw.b": "2", "raw.a": "1"})
    assert Seen.read(seen.write()) == seen
    assert Seen.read(None) == Seen({})


def test_an_input_has_changed_when_nobody_ran_on_this_version() -> None:
    assert changed_version(Seen({}), table("in", "2"), None)
    assert changed_version(Seen({}), table("in", "2"), "1")
    assert not changed_version(Seen({}), table("in", "2"), "2")
    assert not changed_version(Seen({"in": "2"}), table("in", "2"), "1")
