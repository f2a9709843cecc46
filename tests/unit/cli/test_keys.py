"""KEY on the command line."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest

from batch_llm.cli.keys import find_key, parse_key
from batch_llm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "columns", "key"),
    [
        ("abc", ["id"], ("abc",)),
        ("id=abc", ["id"], ("abc",)),
        ("a,b=c", ["id"], ("a,b=c",)),  # one key column: the whole text is the value
        ("1996,Boston", ["year", "district"], ("1996", "Boston")),
        ("1996, Boston", ["year", "district"], ("1996", "Boston")),
        ("district=Boston,year=1996", ["year", "district"], ("1996", "Boston")),
        ('1996,"St. Louis, MO"', ["year", "district"], ("1996", "St. Louis, MO")),
        ("a=b,c=d", ["x", "y"], ("a=b", "c=d")),  # values that look like names
    ],
)
def test_a_key_is_read_as_it_is_written(text: str, columns: list[str], key: tuple[str, ...]) -> None:
    assert parse_key(text, columns) == key


@pytest.mark.parametrize("text", ["", "1996", "1996,Boston,x"])
def test_a_key_with_the_wrong_number_of_parts_names_the_columns(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"year, district.*year=\.\.,district=\.\."):
        parse_key(text, ["year", "district"])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (
            datetime(2020, 1, 1),  # noqa: DTZ001  as a table without zones has it
            [
                "2020-01-01",
                "2020-01-01 00:00:00",
                "2020-01-01T00:00:00",
            ],
        ),
        (
            datetime(2020, 1, 1, 9, 30, tzinfo=UTC),
            ["2020-01-01T09:30:00Z", "2020-01-01 09:30:00+00:00", "2020-01-01 09:30:00"],
        ),
        (datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))), ["2020-01-01", "2020-01-01 00:00:00+02:00"]),
    ],
)
def test_a_time_is_found_however_it_is_written(value: datetime, written: list[str]) -> None:
    for other in (value + timedelta(days=1), value + timedelta(seconds=1)):
        batch = pa.RecordBatch.from_pydict({"at": [other, value]})
        assert [find_key(batch, ["at"], (text,)) for text in written] == [1] * len(written)


def test_keys_of_every_type_are_found_by_their_text() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "number": pa.array([1, 2], pa.int64()),
            "text": ["a", "b"],
            "day": [date(2026, 1, 1), date(2026, 1, 2)],
            "money": [Decimal("1.50"), Decimal("2.50")],
            "real": [1.0, 2.5],
            "flag": [True, False],
        }
    )
    columns = batch.schema.names
    assert find_key(batch, columns, ("2", "b", "2026-01-02", "2.50", "2.5", "false")) == 1
    assert find_key(batch, ["real"], ("1",)) == 0
    assert find_key(batch, ["number", "text"], ("1", "b")) is None
