"""Objects that Arrow would make into others are found; those that it keeps are left alone."""

from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batch_llm.python.frame_objects import Change, first_change

DAY, MOMENT = date(2020, 1, 1), datetime(2020, 1, 2, 17, 30)  # noqa: DTZ001
EAST = timezone(timedelta(hours=5))
THERE = datetime(2020, 1, 1, tzinfo=EAST)
VIENNA = ZoneInfo("Europe/Vienna")
FINE = pd.Timestamp("2020-01-01 00:00:00.000000001")
NAN = float("nan")

Point = namedtuple("Point", "x y")


class Tone(StrEnum):
    DOVISH = "dovish"


class Grade(IntEnum):
    GOOD = 1


def change(*objects: Any) -> Change | None:
    column = pd.Series(list(objects), dtype=object)
    return first_change(column.to_numpy(), pa.Array.from_pandas(column))


@pytest.mark.parametrize(
    ("objects", "place", "given", "made"),
    [
        ([DAY, MOMENT], "[1]", MOMENT, date(2020, 1, 2)),
        ([DAY, None, pd.Timestamp(MOMENT)], "[2]", MOMENT, date(2020, 1, 2)),
        ([[DAY], [DAY, MOMENT]], "[1][1]", MOMENT, date(2020, 1, 2)),
        ([7, 2.5], "[0]", 7, 7.0),
        ([2.5, 7], "[1]", 7, 7.0),
        ([np.int64(7), 2.5], "[0]", 7, 7.0),
        ([1.5, True], "[1]", True, 1.0),
        ([np.bool_(True), 1], "[0]", True, 1),
        ([Decimal("1.50"), 3], "[1]", 3, Decimal("3.00")),
        (["text", b"bytes"], "[0]", "text", b"text"),
        ([bytearray(b"bytes"), "text"], "[1]", "text", b"text"),
        ([UUID(int=1), b"0" * 16], "[1]", b"0" * 16, UUID(bytes=b"0" * 16)),
        ([time(1), time(2, tzinfo=EAST)], "[1]", time(2, tzinfo=EAST), time(2)),
        ([{"a": 1}, {"a": 2.5}], "[0]['a']", 1, 1.0),
        ([{"a": [{"b": 2.5}, {"b": 1}]}], "[0]['a'][1]['b']", 1, 1.0),
        ([{"a": 1}, {b"a": 2}], "[1][b'a']", 2, None),
        ([np.array([1.5]), np.array([1])], "[1][0]", 1, 1.0),
        ([np.array(["a", b"b"], dtype=object)], "[0][1]", b"b", "b"),
        ([FINE], "[0]", FINE, datetime(2020, 1, 1)),  # noqa: DTZ001
    ],
)
def test_an_object_that_became_another_is_found(objects: list[Any], place: str, given: Any, made: Any) -> None:
    found = change(*objects)
    assert found is not None
    assert (found.place, found.given, found.made) == (place, given, made)
    assert type(found.made) is type(made)


@pytest.mark.parametrize(
    "objects",
    [
        [datetime(2020, 1, 1), THERE],  # noqa: DTZ001
        [THERE, datetime(2020, 1, 1)],  # noqa: DTZ001
        [datetime(2020, 1, 1, tzinfo=UTC), THERE],
    ],
)
def test_times_without_a_zone_and_of_another_zone_are_no_one_type(objects: list[Any]) -> None:
    """The column's zone would be another, and where it is UTC nobody would be warned."""
    found = change(*objects)
    assert (
        found is not None and found.place == "[1]" and str(found).endswith("one time zone, or none, or make them text")
    )


@pytest.mark.parametrize(
    "objects",
    [
        ["a", None, NAN, pd.NA, pd.NaT],
        [None, NAN],
        [],
        [1, NAN, np.int8(2), pd.NA, Grade.GOOD],
        [1.5, NAN, np.float32(0.1), float("inf")],
        [True, np.bool_(False), None],
        ["a", np.str_("b"), Tone.DOVISH],
        [b"a", bytearray(b"b"), memoryview(b"c"), np.bytes_(b"d")],
        [Decimal("1.5"), Decimal("1.50"), Decimal("NaN")],
        [UUID(int=1), UUID(int=2)],
        [DAY, pd.NaT],
        [MOMENT, pd.Timestamp(MOMENT), datetime(1, 1, 1), datetime(9999, 12, 31)],  # noqa: DTZ001
        [np.datetime64("2020-01-01T10:00:01"), np.datetime64("20000-01-01T00:00:00")],
        [THERE, datetime(2020, 1, 1, tzinfo=UTC), pd.Timestamp(THERE)],
        [datetime(2020, 10, 25, 2, 30, tzinfo=VIENNA, fold=fold) for fold in (0, 1)],
        [time(1), time(2, 30)],
        [[1, None, NAN], (2, 3), Point(1, 2), {4}, np.array([5]), [], None],
        [np.array([0.5, NAN], np.float32), np.array([0.1], np.float32)],
        [np.array(["2020-01-01T10:00:00.000000001"], "M8[ns]"), np.array(["2020-01-01"], "M8[ns]"), None],
        [{"a": 1}, {"b": [{"c": "x"}]}, {}, {"a": NAN}, OrderedDict(a=2), None],
        [pa.scalar(1), pa.scalar(2)],
    ],
)
@pytest.mark.parametrize("repeated", [1, 300])
def test_what_is_kept_is_left_alone(objects: list[Any], repeated: int) -> None:
    assert change(*objects * repeated) is None


def test_a_change_far_down_is_found() -> None:
    found = change(*[[1]] * 1000, None, *[[1]] * 1000, [2.5])
    assert found is not None and found.place == "[0][0]"
    found = change(*[["a"]] * 1000, None, [None], [b"b", None])
    assert found is not None and (found.place, found.given) == ("[0][0]", "a")
    found = change(*[2.5] * 1000, 7)
    assert found is not None and found.place == "[1000]"


def test_a_change_in_words() -> None:
    assert str(change(DAY, MOMENT)) == (
        "[1] is datetime.datetime(2020, 1, 2, 17, 30) (datetime) and would become datetime.date(2020, 1, 2) (date); "
        "give all its values one type, or make them text"
    )
    assert str(change(FINE)).endswith("convert the column with pd.to_datetime, or make them text")
    assert len(str(change("long " * 1000, b"bytes"))) < 250
