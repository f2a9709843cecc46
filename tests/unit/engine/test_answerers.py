"""Answers of several models in one journal: each is read as its own provider writes, and paid at its own price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config.providers_file import PricesSpec
from batch_llm.engine.answerers import Answerer, Answerers
from batch_llm.engine.answers import Judge
from batch_llm.engine.row_state import RowStatus
from batch_llm.engine.rows import Rows
from batch_llm.errors import ConfigurationError
from batch_llm.job.schema import AnswerSchema
from batch_llm.journal.base import POINTER, Entry, EntryKind
from batch_llm.pricing import Price, PriceList
from batch_llm.providers.account import Account
from batch_llm.providers.kinds import anthropic, openai

OTHER = "anthropic/claude"
PLACE = 77


def judge_of(kind: Any) -> Judge:
    return Judge(kind.chat(Account("p", "http://127.0.0.1", None)), AnswerSchema.from_declared(None))


def price(usd: int) -> Price | None:
    return PriceList().for_model("p", "unheard-of", PricesSpec(input=Decimal(usd), output=Decimal(usd)))


def answerers() -> Answerers:
    """The job's own model costs 1 USD per million tokens; the other, of another kind, 10, and 30 in its pool `dear`."""
    other = Answerer(
        "anthropic", "claude", judge_of(anthropic.KIND), price(30), {"cheap": price(10), "dear": price(30)}
    )
    found = {OTHER: other}
    return Answerers(Answerer("openai", "gpt", judge_of(openai.KIND), price(1)), found.__getitem__)


def openai_body(text: str) -> bytes:
    choices = [{"message": {"content": text}, "finish_reason": "stop"}]
    return orjson.dumps({"choices": choices, "model": "m", "usage": {"prompt_tokens": 10, "completion_tokens": 5}})


def anthropic_body(text: str) -> bytes:
    content = [{"type": "text", "text": text}]
    usage = {"input_tokens": 20, "output_tokens": 5}
    return orjson.dumps(
        {"type": "message", "content": content, "model": "m", "stop_reason": "end_turn", "usage": usage}
    )


def answer(row: int, body: bytes, place: int = PLACE, attempt: int = 1, **detail: str) -> Entry:
    return Entry(EntryKind.ANSWER, row, attempt, request_hash="h", body=body, place=place, detail=detail)


def test_an_answer_is_read_and_paid_as_that_of_the_model_that_gave_it() -> None:
    known = Rows(answerers(), 3)
    own, other = answer(0, openai_body("own")), answer(1, anthropic_body("other"), fallback=OTHER, pool="cheap")
    for entry in (own, other):
        known.apply(entry, PLACE)
    state, values = known.judged(1, other)
    assert (values, state.fallback, state.cost_nano) == ({"response": "other"}, OTHER, 25 * 10_000)
    state, values = known.judged(0, own)
    assert (values, state.fallback, state.cost_nano) == ({"response": "own"}, None, 15 * 1_000)
    assert known.spent_usd == Decimal("0.000265") and known.ok == 2


def test_a_row_that_two_models_answered_costs_both() -> None:
    """The first one's answer was not good; the row says who gave the last."""
    known = Rows(answerers(), 1)
    known.apply(answer(0, openai_body("")), 1)
    assert known.status(0) == RowStatus.PENDING
    good = answer(0, anthropic_body("other"), attempt=2, fallback=OTHER, pool="dear")
    known.apply(good, PLACE)
    state, values = known.judged(0, good)
    assert (state.cost_nano, state.fallback, state.attempts) == (15 * 1_000 + 25 * 30_000, OTHER, 2)
    assert values == {"response": "other"}


def test_an_equal_row_has_the_answer_and_its_model() -> None:
    known = Rows(answerers(), 2)
    twin = Entry(EntryKind.CACHED, 1, body=anthropic_body("other"), detail={POINTER: PLACE, "fallback": OTHER})
    known.apply(twin, 88)
    state, values = known.judged(1, twin)
    assert (state.cached, state.fallback, state.cost_nano, values) == (True, OTHER, None, {"response": "other"})


def test_a_pool_that_is_not_noted_is_the_dearest_of_its_model() -> None:
    other = answerers().called(OTHER)
    assert other.price_of({}) == other.price_of({"pool": "gone"}) == price(30)
    assert other.price_of({"pool": "cheap"}) == price(10)


def test_an_answer_has_the_price_whose_version_it_notes() -> None:
    """Whatever its pool costs by now; where the run keeps no such price, that of today."""
    then, today = price(2), price(5)
    assert then is not None and today is not None
    kept = {then.version: then}
    who = Answerer("p", "m", judge_of(openai.KIND), today, {"a": price(4), "b": today}, kept.get)
    for pool in ({}, {"pool": "a"}, {"pool": "gone"}):
        assert who.price_of({**pool, "price_version": then.version}) == then
        assert who.price_of({**pool, "price_version": today.version}) == today
    assert who.price_of({"pool": "a", "price_version": "override:lost"}) == price(4)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([1, 3, 7]), st.booleans()), max_size=20))
def test_what_was_spent_is_the_sum_of_the_rows_whatever_prices_are_today(paid: list[tuple[int, int, bool]]) -> None:
    """Live, replayed and read again from the journal."""
    kept = {each.version: each for each in (price(1), price(3), price(7)) if each is not None}
    stored: list[Entry] = []
    attempts = [0] * 5
    for place, (row, usd, good) in enumerate(paid):
        attempts[row] += 1
        by = price(usd)
        assert by is not None
        body = openai_body("yes" if good else "")
        stored.append(answer(row, body, place, attempts[row], price_version=by.version))
    for today in (price(1), price(100), None):
        who = Answerers(Answerer("p", "m", judge_of(openai.KIND), today, {}, kept.get))
        known = Rows(who, 5, stored.__getitem__)
        known.replay(stored)
        total = 0
        for row in range(5):
            place = known.good_place(row)
            state, _ = known.judged(row, stored[place] if place >= 0 else None)
            mine = [usd for each, usd, _ in paid if each == row]
            assert (state.cost_nano or 0) == sum(15_000 * usd for usd in mine)
            assert state.price_version == (price(mine[-1]).version if mine else None)  # type: ignore[union-attr]
            total += state.cost_nano or 0
        assert known.spent_usd == Decimal(total).scaleb(-9)


def test_a_model_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="an answer of a/b is stored"):
        Answerers(answerers().own).called("a/b")
