"""Which types are frozen as what."""

import pyarrow as pa
import pytest

from batch_llm.python.frame_types import local_zone, plain, storable

S = pa.string()


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        (pa.int64(), pa.int64()),
        (pa.string_view(), S),
        (pa.dictionary(pa.int8(), pa.string_view()), S),
        (pa.large_list(pa.string_view()), pa.large_list(S)),
        (pa.list_(pa.dictionary(pa.int8(), S)), pa.list_(S)),
        (pa.struct([("a", pa.float16())]), pa.struct([("a", pa.float32())])),
        (pa.map_(S, pa.binary_view()), pa.map_(S, pa.binary())),
        (pa.list_(pa.int8(), 3), pa.list_(pa.int8(), 3)),
        (pa.uuid(), pa.uuid()),
        (pa.timestamp("ns", "UTC"), pa.timestamp("ns", "UTC")),
        (pa.null(), pa.null()),
    ],
)
def test_a_type_that_can_be_frozen(given: pa.DataType, frozen: pa.DataType) -> None:
    assert storable(given) == frozen


@pytest.mark.parametrize(
    "given",
    [
        pa.duration("s"),
        pa.list_(pa.duration("s")),
        pa.struct([("a", pa.list_(pa.duration("s")))]),
        pa.decimal256(60, 2),
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int64())]),
    ],
)
def test_a_type_that_would_come_through_changed_is_refused_in_words(given: pa.DataType) -> None:
    assert isinstance(storable(given), str)


def test_values_survive_their_new_type() -> None:
    views = pa.array(["a", None, "b"], pa.string_view())
    assert plain(views, S).to_pylist() == ["a", None, "b"]
    coded = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array(["x", "y"], pa.string_view()))
    assert plain(coded, S).to_pylist() == ["y", None, "x"]


@pytest.mark.parametrize(
    ("given", "zone"),
    [
        (pa.timestamp("us", "Europe/Vienna"), "Europe/Vienna"),
        (pa.timestamp("us", "+01:00"), "+01:00"),
        (pa.list_(pa.struct([("a", S), ("at", pa.timestamp("ns", "Asia/Tokyo"))])), "Asia/Tokyo"),
        (pa.timestamp("us", "UTC"), None),
        (pa.timestamp("us"), None),
        (pa.list_(pa.int64()), None),
        (pa.uuid(), None),
        (S, None),
    ],
)
def test_times_of_a_zone_are_told_from_those_in_utc(given: pa.DataType, zone: str | None) -> None:
    assert local_zone(given) == zone
