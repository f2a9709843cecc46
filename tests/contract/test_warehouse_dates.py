"""The Warehouse protocol, ranges of dates: one suite for every implementation.

Belongs here: which rows a range picks, and what it is refused for. Not here: which ranges a job has
(tests/unit/job/test_date_partitions.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_llm.errors import InputError
from batch_llm.warehouse.base import DateRange, Warehouse
from tests.contract.test_warehouse_inputs import read_all
from tests.contract.warehouse_lab import Lab, spec, written

KINDS = {
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
SECOND = DateRange("day", date(2026, 1, 2), date(2026, 1, 3))


def days(kind: str) -> pa.Table:
    """Rows at the edges of days: a, then b to d on the second of January, then e; f nowhere."""
    zone = UTC if kind == "TIMESTAMP" else None
    moments: list[Any] = [
        datetime(2026, 1, 1, 23, 59, 59, 999_999, zone),
        datetime(2026, 1, 2, tzinfo=zone),
        datetime(2026, 1, 2, 12, tzinfo=zone),
        datetime(2026, 1, 2, 23, 59, 59, 999_999, zone),
        datetime(2026, 1, 3, tzinfo=zone),
        None,
    ]
    if kind == "DATE":
        moments = [moment and moment.date() for moment in moments]
    columns = {"id": list("abcdef"), "text": [f"text {name}" for name in "abcdef"]}
    return pa.table({**columns, "day": pa.array(moments, KINDS[kind])})


def place(lab: Lab, folder: Path, where: str, table: pa.Table) -> str:
    if where == "file":
        return written(folder / "in.parquet", table)
    lab.put("raw.texts", table)
    return "raw.texts"


def ids(warehouse: Warehouse, ref: str, where: str | None, run_id: str = "r1") -> str:
    frozen = warehouse.freeze(spec(run_id, ref, where=where))
    return "".join(sorted(row["id"] for row in read_all(warehouse, frozen)))


@pytest.mark.parametrize("where", ["table", "file"])
@pytest.mark.parametrize("type_name", KINDS)
def test_a_range_has_its_first_midnight_and_not_its_last(lab: Lab, tmp_path: Path, type_name: str, where: str) -> None:
    ref, warehouse = place(lab, tmp_path, where, days(type_name)), lab.warehouse
    picked = warehouse.within(ref, SECOND, None)
    assert ids(warehouse, ref, picked) == "bcd"
    assert warehouse.count(ref, picked) == 3
    assert warehouse.head(ref, ["id"], picked, 9).num_rows == 3


def test_midnight_is_utcs_whatever_zone_a_file_writes(lab: Lab, tmp_path: Path) -> None:
    """02:00 in Berlin's summer is midnight there plus two hours, and midnight in UTC."""
    berlin = timezone(timedelta(hours=2))
    moments = [datetime(2026, 7, 2, hour, tzinfo=berlin) for hour in (1, 2)]
    table = pa.table({"id": ["a", "b"], "text": ["x", "y"], "day": pa.array(moments, pa.timestamp("us", "+02:00"))})
    ref = written(tmp_path / "in.parquet", table)
    picked = lab.warehouse.within(ref, DateRange("day", date(2026, 7, 2), date(2026, 7, 3)), None)
    assert ids(lab.warehouse, ref, picked) == "b"


@pytest.mark.parametrize("where", ["table", "file"])
def test_a_users_filter_narrows_the_range_and_never_widens_it(lab: Lab, tmp_path: Path, where: str) -> None:
    ref, warehouse = place(lab, tmp_path, where, days("DATE")), lab.warehouse
    either = warehouse.within(ref, SECOND, "id = 'c' OR id = 'a' -- a comment")
    assert ids(warehouse, ref, either) == "c"
    for bad in ("id = 'c') OR (id = 'a'", "id = 'a' GROUP BY id", "TRUE; DROP TABLE raw.texts", "nothing = 1"):
        with pytest.raises(InputError):
            warehouse.freeze(spec("r2", ref, where=warehouse.within(ref, SECOND, bad)))


@pytest.mark.parametrize("where", ["table", "file"])
def test_a_column_without_dates_is_refused(lab: Lab, tmp_path: Path, where: str) -> None:
    ref = place(lab, tmp_path, where, days("DATE"))
    with pytest.raises(InputError, match=r"'text' is .*, and dates are wanted"):
        lab.warehouse.within(ref, DateRange("text", SECOND.start, SECOND.end), None)
    with pytest.raises(InputError, match=r"no column 'dya'.*day"):
        lab.warehouse.within(ref, DateRange("dya", SECOND.start, SECOND.end), None)
