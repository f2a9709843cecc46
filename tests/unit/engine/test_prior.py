"""Answers of earlier runs: found by key and request, ok before failed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.prior import Place, PriorAnswers, key_of

NAN = float("nan")
COLUMNS = ("mark", "more")  # to keep


class Row(NamedTuple):
    """An earlier row: its key, what was asked, how it ended, and a mark to know it by."""

    a: float | None
    b: str
    asked: str | None
    status: str
    mark: int = 0


def batch(*rows: Row) -> pa.RecordBatch:
    columns = {
        "a": pa.array([row.a for row in rows], pa.float64()),
        "b": pa.array([row.b for row in rows], pa.string()),
        "llm_request_hash": pa.array([row.asked for row in rows], pa.string()),
        "llm_status": pa.array([row.status for row in rows], pa.string()),
        "mark": pa.array([row.mark for row in rows], pa.int64()),
    }
    return pa.RecordBatch.from_pydict(columns)


def prior(*batches: pa.RecordBatch, any_question: bool = False, with_failed: bool = True) -> PriorAnswers:
    """All of them in one place."""
    return PriorAnswers(("a", "b"), [Place(lambda: batches, any_question)], COLUMNS, with_failed=with_failed)


def in_places(*places: list[pa.RecordBatch], with_failed: bool = True) -> PriorAnswers:
    return PriorAnswers(
        ("a", "b"), [Place(lambda held=held: held) for held in places], COLUMNS, with_failed=with_failed
    )


def marked(found: PriorAnswers, a: float | None, b: str, asked: str) -> Any:
    """The mark of what is found; None for nothing."""
    number = found.find({"a": a, "b": b, "text": "not of the key"}, asked)
    return None if number is None else found.values(number)["mark"]


def kept(found: PriorAnswers, a: float | None, b: str) -> Any:
    """The mark of what its key keeps; None for nothing."""
    number = found.kept(key_of([a, b]))
    return None if number is None else found.values(number)["mark"]


def test_the_same_key_and_request_are_found_and_no_others() -> None:
    """Another key, another part of it, another question: not found."""
    found = prior(batch(Row(1, "x", "h1", "ok", 7)))
    assert marked(found, 1, "x", "h1") == 7
    assert [marked(found, *wanted) for wanted in ((1, "x", "h2"), (1, "y", "h1"), (2, "x", "h1"))] == [None] * 3


@pytest.mark.parametrize("order", [("ok", "failed"), ("failed", "ok")])
def test_an_ok_row_wins_over_a_failed_one(order: tuple[str, str]) -> None:
    """Whichever comes first, in one batch, in two, or in two places."""
    rows = [Row(1, "x", "h", status, 1 if status == "ok" else 2) for status in order]
    apart = [batch(row) for row in rows]
    for found in (prior(batch(*rows)), prior(*apart), in_places(*([one] for one in apart))):
        assert marked(found, 1, "x", "h") == 1
        number = found.find({"a": 1, "b": "x"}, "h")
        assert number is not None and not found.is_failed(number)


def test_a_failed_row_counts_unless_failed_rows_are_asked_again() -> None:
    """`retry` finds only what is ok."""
    rows = batch(Row(1, "x", "h", "failed", 3), Row(2, "x", "h", "ok", 4))
    found = prior(rows)
    number = found.find({"a": 1, "b": "x"}, "h")
    assert number is not None and found.is_failed(number)
    again = prior(rows, with_failed=False)
    assert (marked(again, 1, "x", "h"), marked(again, 2, "x", "h")) == (None, 4)


def test_a_pending_row_and_one_without_a_request_are_no_answers() -> None:
    """A key is known when its row ended, however."""
    found = prior(batch(Row(1, "x", "h", "pending"), Row(2, "x", None, "failed"), Row(3, "x", "", "ok")))
    assert [marked(found, a, "x", asked) for a, asked in ((1, "h"), (2, ""), (3, ""))] == [None] * 3
    assert [found.has_key((a, "x")) for a in (1, 2, 3)] == [False, True, True]
    assert (found.any(), prior(batch(Row(1, "x", "h", "pending"))).any(), prior().any()) == (True, False, False)


def test_with_any_question_a_key_that_is_ok_is_done() -> None:
    """Whatever it was asked; a failed one only for the very same question."""
    found = prior(batch(Row(1, "x", "old", "ok", 5), Row(2, "x", "old", "failed", 6)), any_question=True)
    assert (kept(found, 1, "x"), kept(found, 2, "x"), kept(found, 3, "x"), found.kept(None)) == (5, None, None, None)
    assert (marked(found, 2, "x", "new"), marked(found, 2, "x", "old")) == (None, 6)


def test_any_question_counts_in_its_own_place_only() -> None:
    """A run that never came into the output answers what it was asked, and nothing else."""
    places = [
        Place(lambda: [batch(Row(1, "x", "old", "ok", 1))], any_question=True),
        Place(lambda: [batch(Row(1, "x", "new", "ok", 2), Row(2, "x", "old", "ok", 3))]),
    ]
    for order in (places, places[::-1]):
        found = PriorAnswers(("a", "b"), order, COLUMNS)
        assert (kept(found, 1, "x"), kept(found, 2, "x")) == (1, None)
        assert [marked(found, 2, "x", asked) for asked in ("old", "new")] == [3, None]


def test_a_key_that_is_kept_is_looked_for_only_where_any_question_counts() -> None:
    """Where none does, its keys are not even made, and no place is read."""

    def unread() -> Iterator[pa.RecordBatch]:
        raise OSError("read")

    own = Place(lambda: [batch(Row(1, "x", "old", "ok", 1), Row(NAN, "x", "old", "ok", 2))], any_question=True)
    asked = pa.RecordBatch.from_pydict({"a": [1.0, 2.0, NAN], "b": ["x"] * 3, "text": ["t"] * 3})
    for places, marks in ([own, Place(unread)], [1, None, 2]), ([Place(unread)], [None] * 3):
        found = PriorAnswers(("a", "b"), places, COLUMNS)
        numbers = [found.kept(key) for key in found.keys(asked)]
        assert [None if number is None else found.values(number)["mark"] for number in numbers] == marks
        assert [found.kept(key) for key in [None] * 3] == [None] * 3
    assert found.keys(asked) == [None] * 3 and found.kept((1.0, "x")) is None


def test_a_place_is_read_when_those_before_it_do_not_answer() -> None:
    """Once; one that could not be read is tried again, and of what was known nothing is lost."""
    read: list[str] = []

    def place(name: str, *rows: Row) -> Place:
        def reading() -> Iterator[pa.RecordBatch]:
            read.append(name)
            yield batch(*rows)
            if read.count("second") == 1 and name == "second":
                raise OSError("away")

        return Place(reading)

    known = place("first", Row(1, "x", "h", "ok", 1)), place("second", Row(2, "x", "h", "ok", 2)), place("third")
    found = PriorAnswers(("a", "b"), known, COLUMNS)
    assert not read
    assert (marked(found, 1, "x", "h"), read) == (1, ["first"])
    with pytest.raises(OSError, match="away"):
        marked(found, 3, "x", "h")
    assert (marked(found, 1, "x", "h"), marked(found, 2, "x", "h"), read) == (1, 2, ["first", "second"])
    assert [marked(found, a, "x", "h") for a in (3, 4)] == [None, None]
    assert read == ["first", "second", "second", "third"]


def test_a_key_that_is_not_a_number_is_found() -> None:
    """NaN does not equal itself, and a null is no NaN."""
    assert key_of([NAN, 1]) == key_of([float("nan"), 1]) != key_of([None, 1])
    found = prior(batch(Row(NAN, "x", "h", "ok", 8)))
    assert (marked(found, float("nan"), "x", "h"), marked(found, None, "x", "h")) == (8, None)


def test_batches_may_differ_in_their_columns() -> None:
    """The values are those of the row's own batch."""
    wide = batch(Row(1, "x", "h", "ok", 1)).append_column("more", pa.array(["m"]))
    found = prior(wide, batch(Row(2, "x", "h", "ok", 2)), batch(Row(3, "x", "h", "ok", 3)))
    assert [marked(found, a, "x", "h") for a in (1, 2, 3)] == [1, 2, 3]
    numbers = [found.find({"a": a, "b": "x"}, "h") for a in (1, 2)]
    assert ["more" in found.values(number) for number in numbers if number is not None] == [True, False]


KEYS_A, KEYS_B, HASHES = (None, NAN, 1.5), ("x", "NaN"), ("h1", "h2")
rows = st.builds(
    Row,
    st.sampled_from(KEYS_A),
    st.sampled_from(KEYS_B),
    st.sampled_from([*HASHES, None]),
    st.sampled_from(["ok", "failed", "pending"]),
)


@given(st.lists(st.lists(rows, max_size=8), max_size=4), st.booleans(), st.booleans())
def test_ok_wins_the_same_is_found_and_nothing_else(batches: list[list[Row]], with_failed: bool, apart: bool) -> None:
    """Every key and request against the plain definition: an ok row of the same, else a failed one, else nothing.

    ``apart``: each batch is a place of its own.
    """
    numbered = [[row._replace(mark=10 * at + n) for n, row in enumerate(rows_)] for at, rows_ in enumerate(batches)]
    made = [batch(*rows_) for rows_ in numbered]
    places = [[each] for each in made] if apart else [made]
    found = in_places(*places, with_failed=with_failed)
    for a, b, asked in product(KEYS_A, KEYS_B, HASHES):
        same = [
            row
            for rows_ in numbered
            for row in rows_
            if repr((row.a, row.b, row.asked)) == repr((a, b, asked))  # by text: NaN does not equal itself
        ]
        ok = [row.mark for row in same if row.status == "ok"]
        expected = ok or [row.mark for row in same if row.status == "failed" and with_failed]
        mark = marked(found, a, b, asked)
        assert mark in expected if expected else mark is None
        number = found.find({"a": a, "b": b}, asked)
        assert number is None or found.is_failed(number) is (not ok)
