"""An answer to many rows is good for all of them or for none, and each row finds its own vector again."""

from __future__ import annotations

import base64
import struct
from decimal import Decimal
from typing import Any

import orjson
import pytest

from batch_llm.config.providers_file import PricesSpec
from batch_llm.engine.answerers import Answerer, Answerers
from batch_llm.engine.call_answers import CallJudge
from batch_llm.engine.rows import HASHES, KEPT_CALLS, WEIGHTS, Rows
from batch_llm.errors import ErrorClass
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.journal.base import HELD_USD, ROWS, Entry, EntryKind
from batch_llm.pricing import PriceList
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint

PROVIDER = OpenAIEmbeddingProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
JUDGE = CallJudge(PROVIDER, EmbeddingAnswer(2))


def vector(number: float, size: int = 2) -> bytes:
    return struct.pack(f"<{size}f", *[number] * size)


def body(*vectors: bytes) -> bytes:
    data = [{"index": place, "embedding": base64.b64encode(each).decode()} for place, each in enumerate(vectors)]
    return orjson.dumps({"data": data, "usage": {"prompt_tokens": 9, "total_tokens": 9}})


def test_a_good_answer_has_a_vector_for_each_row() -> None:
    verdict = JUDGE.judge(body(vector(1), vector(2)), 2)
    assert (verdict.error_class, verdict.vectors) == (None, (vector(1), vector(2)))
    assert verdict.usage is not None and verdict.usage.input_tokens == 9


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (body(vector(1)), ErrorClass.MALFORMED, "1 vectors for 2 texts"),
        (body(*[vector(1)] * 3), ErrorClass.MALFORMED, "3 vectors for 2 texts"),
        (body(), ErrorClass.EMPTY, "no vectors"),
        (
            body(vector(1, 3), vector(2, 3)),
            ErrorClass.INVALID_REQUEST,
            "vectors of 3 numbers, not 2: params.dimensions",
        ),
        (b"<html>", ErrorClass.MALFORMED, "not a list of embeddings"),
    ],
)
def test_a_bad_answer_is_bad_for_all_rows_and_its_bill_is_known_where_it_is_told(
    answer: bytes, expected: ErrorClass, words: str
) -> None:
    verdict = JUDGE.judge(answer, 2)
    assert (verdict.error_class, verdict.vectors) == (expected, ())
    assert words in verdict.message
    assert (verdict.usage is None) == (answer == b"<html>")


def stored(place: int, first: int, count: int) -> Entry:
    """An answer to ``count`` rows from ``first`` on, whose predicted tokens are 1, 2, 3, .."""
    rows = list(range(first, first + count))
    detail = {ROWS: rows, WEIGHTS: list(range(1, count + 1)), HASHES: [f"h{row}" for row in rows]}
    return Entry(EntryKind.ANSWER, first, 1, body=body(*(vector(row) for row in rows)), place=place, detail=detail)


def test_each_row_finds_its_own_vector_and_its_share_of_the_bill_again() -> None:
    """Whatever is kept of the last calls; the shares add up to the bill, to the token and the billionth."""
    prices = PricesSpec(input=Decimal("0.02"), output=Decimal(0))
    rows = Rows(Answerers(Answerer("p", "m", JUDGE, PriceList().for_model("p", "m", prices))), 4 * 2 * KEPT_CALLS)
    calls = {place: stored(place, place * 4, 4) for place in range(2 * KEPT_CALLS)}
    rows.replay(calls.values())
    assert rows.ok == 4 * len(calls) and rows.spent_usd == len(calls) * Decimal("0.00000018")
    for place in [*calls, 0, len(calls) - 1, 0]:
        states = []
        for row in range(place * 4, place * 4 + 4):
            assert rows.good_place(row) == place and rows.open_state(row) is None
            state, values = rows.judged(row, calls[place])
            assert values == {"embedding": vector(row)} and state.request_hash == f"h{row}"
            states.append(state)
        assert [state.input_tokens for state in states] == [1, 2, 3, 3]
        assert sum(state.cost_nano or 0 for state in states) == 180


def test_a_call_that_was_lost_is_lost_for_all_its_rows() -> None:
    rows = Rows(Answerers(Answerer("p", "m", JUDGE, None)), 4)
    rows.replay([Entry(EntryKind.LOST, 0, 2, detail=stored(0, 0, 4).detail)])
    states = [rows.open_state(row) for row in range(4)]
    assert [(state.lost, state.attempts) for state in states if state] == [(1, 2)] * 4


@pytest.mark.parametrize("named", [{ROWS: [0, 1, 2, 3]}, {}])
def test_what_was_set_aside_for_a_call_ends_with_it(named: dict[str, Any]) -> None:
    """Whether its intent names all rows, as it does, or the first alone, as in journals of earlier versions."""
    sent = Entry(EntryKind.SENT, 0, 1, detail={HELD_USD: "5", **named})
    for end, owed_usd in ((None, 5), (Entry(EntryKind.UNBILLED, 0, 1, detail=named), 0), (stored(0, 0, 4), 0)):
        prices = PricesSpec(input=Decimal(0), output=Decimal(0))
        rows = Rows(Answerers(Answerer("p", "m", JUDGE, PriceList().for_model("p", "m", prices))), 4)
        rows.replay([sent] if end is None else [sent, end])
        assert rows.owed_usd == owed_usd
