"""What a journal says of rows and money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson

from batch_llm.config.providers_file import PricesSpec
from batch_llm.engine.answers import Judge
from batch_llm.engine.rows import Rows, RowStatus
from batch_llm.job.schema import AnswerSchema
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.pricing import PriceList
from batch_llm.providers.openai_chat import OpenAIChatProvider, OpenAIEndpoint

PRICES = {"input": Decimal(1), "output": Decimal(2)}  # USD per 1M tokens: 10 in + 5 out = 0.00002


def rows(prices: Any = PRICES) -> Rows:
    judge = Judge(
        OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None)), AnswerSchema.from_declared(None)
    )
    return Rows(judge, PriceList().for_model("p", "unheard-of", PricesSpec(**prices) if prices else None))


def answer(row: int, attempt: int = 1, text: str = "yes", finish: str = "stop", usage: Any = (10, 5)) -> Entry:
    body: dict[str, Any] = {"model": "m", "choices": [{"message": {"content": text}, "finish_reason": finish}]}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Entry(EntryKind.ANSWER, row, attempt, body=orjson.dumps(body), place=77)


def sent(row: int, usd: str, attempt: int = 1) -> Entry:
    return Entry(EntryKind.SENT, row, attempt, detail={"held_usd": usd})


def test_a_good_answer_ends_its_row() -> None:
    """With tokens, cost and the place of the answer."""
    known = rows()
    assert known.apply(answer(3)) is not None
    state = known.states[3]
    assert (state.status, state.input_tokens, state.output_tokens, state.good_place) == (RowStatus.OK, 10, 5, 77)
    assert state.cost_usd == known.spent_usd == Decimal("0.00002")


def test_a_bad_answer_is_paid_and_does_not_end_its_row() -> None:
    """Cut short, empty, garbled: counted in the bill, never kept as good."""
    for bad in (answer(0, finish="length"), answer(0, text=" "), answer(0, finish="other")):
        known = rows()
        verdict = known.apply(bad)
        assert verdict is not None and verdict.error_class is not None
        assert known.states[0].status == RowStatus.PENDING
        assert known.spent_usd == Decimal("0.00002")


def test_all_answers_of_a_row_are_in_its_bill() -> None:
    """A re-ask is paid as well."""
    known = rows()
    known.replay([answer(0, 1, finish="length"), answer(0, 2)])
    state = known.states[0]
    assert (state.status, state.attempts, state.cost_usd) == (RowStatus.OK, 2, Decimal("0.00004"))


def test_an_unknown_price_or_usage_is_unknown_not_zero() -> None:
    """The cost of such a row is None."""
    unpriced = rows(prices=None)
    unpriced.apply(answer(0))
    assert unpriced.states[0].cost_usd is None
    silent = rows()
    silent.apply(answer(0, usage=None))
    assert silent.states[0].usage_unknown and silent.states[0].cost_usd is None


def test_what_was_sent_and_never_heard_of_counts_as_spent() -> None:
    """The process died with the call in flight: the dearest bill stands."""
    known = rows()
    known.replay([sent(0, "0.5"), answer(0), sent(1, "0.5"), sent(2, "0.5"), Entry(EntryKind.UNBILLED, 2, 1)])
    assert known.spent_usd == Decimal("0.50002")


def test_a_lost_call_and_an_answer_without_usage_count_in_full() -> None:
    """Unknown outcomes never make room in a budget."""
    known = rows()
    known.replay([sent(0, "0.5"), Entry(EntryKind.LOST, 0, 1), sent(1, "0.25"), answer(1, usage=None)])
    assert known.spent_usd == Decimal("0.75")


def test_a_reopened_row_is_open_again_and_keeps_its_bill() -> None:
    """Its attempts go on counting."""
    known = rows()
    detail = {"error_class": "truncated", "message": "cut"}
    known.replay([answer(0, finish="length"), Entry(EntryKind.FAILED, 0, 1, place=70, detail=detail)])
    assert known.failed(below=71) == [0] and known.failed(below=70) == [] and known.failure_counts() == {"truncated": 1}
    known.apply(Entry(EntryKind.REOPENED, 0))
    state = known.states[0]
    assert (state.status, state.error_class, state.bad_answers, state.attempts) == (RowStatus.PENDING, None, 0, 1)
    assert state.cost_usd == Decimal("0.00002")
