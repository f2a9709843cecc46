"""Every row in exactly one call, no call beyond its bounds, and one bad row fails alone."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.packing import CallBounds, Packer, calls_needed, halved, packed
from batch_llm.errors import ErrorClass
from batch_llm.limiter.base import Limits
from batch_llm.providers.call_size import CallSize


@dataclass(frozen=True)
class Row:
    input_tokens: int
    input_bytes: int
    number: int = 0


ROWS = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 500)), max_size=80).map(
    lambda sizes: [Row(tokens, size, number) for number, (tokens, size) in enumerate(sizes)]
)
BOUNDS = st.builds(
    CallBounds,
    rows=st.integers(1, 12),
    tokens=st.integers(1, 300),
    request_bytes=st.integers(1, 1_500),
    row_tokens=st.integers(1, 100),
)


def fits(call: list[Row], bounds: CallBounds) -> bool:
    return bounds.holds(len(call), sum(row.input_tokens for row in call), sum(row.input_bytes for row in call))


@given(rows=ROWS, bounds=BOUNDS)
def test_every_row_is_in_one_call_in_order_and_a_call_of_several_is_within_its_bounds(
    rows: list[Row], bounds: CallBounds
) -> None:
    calls = list(packed(rows, bounds))
    assert [row for call in calls for row in call] == rows
    assert all(calls)
    for call in calls:
        if len(call) > 1:
            assert fits(call, bounds)
            assert all(row.input_tokens <= bounds.row_tokens for row in call)


@given(rows=ROWS, bounds=BOUNDS)
def test_no_call_has_room_for_the_next_row(rows: list[Row], bounds: CallBounds) -> None:
    calls = list(packed(rows, bounds))
    for call, following in itertools.pairwise(calls):
        alone = max(call[-1].input_tokens, following[0].input_tokens) > bounds.row_tokens
        assert alone or not fits([*call, following[0]], bounds)


@given(rows=ROWS, bounds=BOUNDS)
def test_rows_that_come_one_by_one_are_packed_the_same(rows: list[Row], bounds: CallBounds) -> None:
    """What waits never exceeds one call."""
    packer: Packer[Row] = Packer(bounds)
    calls = [call for row in rows for call in packer.add(row)]
    calls += packer.rest()
    assert calls == list(packed(rows, bounds))
    assert packer.rest() == []


@given(count=st.integers(1, 600), data=st.data())
def test_bad_rows_fail_alone_and_all_others_are_answered(count: int, data: st.DataObject) -> None:
    """A provider that refuses a call with a bad row in it; few bad rows cost few calls."""
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    waiting, answered, failed, calls = [list(range(count))], set(), set(), 0
    while waiting:
        call = waiting.pop()
        calls += 1
        if not bad & set(call):
            answered |= set(call)
        elif halves := halved(call, ErrorClass.INVALID_REQUEST):  # type: ignore[type-var]
            waiting += halves
        else:
            failed |= set(call)
    assert (failed, answered) == (bad, set(range(count)) - bad)
    assert calls <= 1 + 2 * len(bad) * count.bit_length()


@pytest.mark.parametrize("refused", ErrorClass)
def test_only_what_fewer_rows_may_escape_is_halved(refused: ErrorClass) -> None:
    rows = [Row(1, 1, number) for number in range(5)]
    one_rows_fault = (ErrorClass.INVALID_REQUEST, ErrorClass.TOO_LARGE, ErrorClass.CONTENT_FILTER)
    is_split = refused in (*one_rows_fault, ErrorClass.BUDGET)
    assert halved(rows, refused) == ([rows[:2], rows[2:]] if is_split else [])
    assert halved(rows[:1], refused) == []


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [
        ({}, 300_000),
        ({"tokens_per_minute": 1_000_000}, 16_666),
        ({"tokens_per_minute": 1_000_000, "requests_per_minute": 3_000}, 16_666),
        ({"input_tokens_per_minute": 600_000, "tokens_per_minute": 1_000_000}, 10_000),
        ({"tokens_per_minute": 40_000, "requests_per_minute": 3}, 13_333),  # else 3 x 666 tokens a minute
        ({"tokens_per_minute": 600, "requests_per_minute": 0.5}, 600),
        ({"tokens_per_minute": 600_000_000}, 300_000),
        ({"tokens_per_minute": 600_000, "window_s": 60}, 10_000),
        ({"tokens_per_minute": 600_000, "window_s": 1}, 500),
        ({"tokens_per_day": 5_000}, 5_000),
        ({"tokens_per_minute": 10}, 1),
    ],
)
def test_a_call_takes_no_more_than_a_second_of_the_limit(limits: dict[str, Any], tokens: int) -> None:
    """Nor than a small part of a fixed window; where requests are few, what comes back per request."""
    assert CallBounds.of(Limits("p", **limits), 1536, exact=True).tokens == tokens


def test_estimated_tokens_leave_room_for_their_error() -> None:
    assert CallBounds.of(Limits("p"), 1536, exact=False).tokens == 180_000


@pytest.mark.parametrize(("dimensions", "rows"), [(1536, 512), (3072, 256), (256, 2048), (10**7, 1)])
def test_an_answer_weighs_no_more_than_four_mebibytes(dimensions: int, rows: int) -> None:
    assert CallBounds.of(Limits("p"), dimensions, exact=True).rows == rows


def test_calls_are_counted_by_what_fills_them_first() -> None:
    bounds = CallBounds(rows=100, tokens=1_000)
    assert [calls_needed(*need, bounds) for need in ((0, 0), (1, 1), (250, 10), (250, 5_001))] == [0, 1, 3, 6]


def test_a_provider_that_takes_fewer_texts_gets_fewer() -> None:
    size = CallSize(texts=100, tokens=20_000, text_tokens=2_048)
    assert CallBounds.of(Limits("p"), 8, exact=True, size=size) == CallBounds(100, 20_000, row_tokens=2_048)
    assert CallBounds.of(Limits("p"), 8, exact=False, size=size).tokens == 12_000
    assert CallBounds.of(Limits("p"), 100_000, exact=True, size=size).rows == 7  # its answer's size says less


def test_a_call_that_may_go_to_several_pools_fits_each() -> None:
    few, short = CallBounds(rows=1, tokens=900), CallBounds(rows=100, tokens=500, row_tokens=20)
    assert CallBounds.least([few, short]) == CallBounds(rows=1, tokens=500, row_tokens=20)


@pytest.mark.parametrize(
    ("limits", "rows", "tokens"),
    [
        ({}, 100, 300_000),
        ({"requests_per_minute": 100}, 1, 300_000),
        ({"requests_per_minute": 1_500, "tokens_per_minute": 600_000}, 25, 10_000),
        ({"requests_per_minute": 6_000_000, "requests_per_day": 40}, 40, 300_000),
        ({"requests_per_minute": 6_000, "window_s": 10}, 50, 300_000),
        ({"requests_per_minute": 3, "tokens_per_minute": 60_000}, 1, 1_000),  # not a call for every twenty seconds
    ],
)
def test_where_each_text_is_a_request_a_call_takes_no_more_than_a_second_of_those(
    limits: dict[str, Any], rows: int, tokens: int
) -> None:
    size = CallSize(texts=100, text_is_request=True)
    bounds = CallBounds.of(Limits("p", **limits), 8, exact=True, size=size)
    assert bounds == CallBounds(rows, tokens, row_is_request=True)
    assert CallBounds.least([bounds, CallBounds()]).row_is_request
