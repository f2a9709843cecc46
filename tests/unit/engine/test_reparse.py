"""Rows whose good answer stands, whatever was noted after it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from batch_llm.engine.answerers import Answerer, Answerers
from batch_llm.engine.answers import Judge
from batch_llm.engine.reparse import StandingRows
from batch_llm.engine.row_state import RowState, RowStatus
from batch_llm.errors import ErrorClass
from batch_llm.job.schema import AnswerSchema
from batch_llm.journal.base import Entry, EntryKind
from batch_llm.providers.openai.chat import OpenAIChatProvider, OpenAIEndpoint

GOOD, BAD, CUT = {"tone": "calm"}, {"tone": "loud"}, None
FAILED = Entry(EntryKind.FAILED, 0, place=9, detail={"error_class": "schema_mismatch", "message": "as it was"})
REOPENED = Entry(EntryKind.REOPENED, 0)


def answer(said: dict[str, Any] | None, place: int = 1) -> Entry:
    choice = {"message": {"content": orjson.dumps(said).decode()}, "finish_reason": "stop" if said else "length"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    return Entry(EntryKind.ANSWER, 0, 1, body=orjson.dumps(body), place=place)


def replayed(*entries: Entry) -> StandingRows:
    provider = OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None))
    judge = Judge(provider, AnswerSchema.from_declared({"tone": {"enum": ["calm"]}}))
    rows = StandingRows(Answerers(Answerer("p", "m", judge, None)), 1)
    rows.entry_at = {each.place: each for each in entries}.__getitem__  # as if it were the journal
    rows.replay(entries)
    return rows


def good_of(rows: StandingRows) -> RowState:
    state, _ = rows.judged(0, rows.entry_at(rows.good_place(0)) if rows.entry_at else None)
    return state


@pytest.mark.parametrize("after", [[FAILED], [FAILED, REOPENED], [FAILED, REOPENED, answer(BAD, 2), FAILED]])
def test_a_good_answer_stands(after: list[Entry]) -> None:
    """Also when the schema of that time had it fail, asked again and fail again."""
    rows = replayed(answer(GOOD, 1), *after)
    state = good_of(rows)
    assert (rows.status(0), state.status, state.good_place, state.error_class) == ("ok", RowStatus.OK, 1, None)


def test_the_latest_good_answer_counts_and_all_are_paid() -> None:
    state = good_of(replayed(answer(GOOD, 1), FAILED, REOPENED, answer(GOOD, 2), answer(BAD, 3)))
    assert (state.status, state.good_place, state.answers, state.input_tokens) == (RowStatus.OK, 2, 3, 30)


def test_of_bad_answers_the_one_nearest_to_good_is_told() -> None:
    for entries in ([answer(BAD), answer(CUT)], [answer(CUT), answer(BAD)]):
        assert replayed(*entries).failures[0].error_class is ErrorClass.SCHEMA_MISMATCH
    assert replayed(answer(CUT)).failures[0].error_class is ErrorClass.TRUNCATED


def test_a_failed_row_without_a_good_answer_stays_as_it_was() -> None:
    state = replayed(answer(BAD), FAILED).open_state(0)
    assert state is not None and (state.status, state.error) == (RowStatus.FAILED, "as it was")
    assert replayed(answer(BAD), FAILED, REOPENED).status(0) == RowStatus.PENDING


def test_an_equal_rows_answer_is_judged_like_its_own() -> None:
    """Good, it stands whatever was noted of the row when it was not; bad, the row is told why."""
    good, bad = (answer(said)._replace(kind=EntryKind.CACHED, attempt=0) for said in (GOOD, BAD))
    state = good_of(replayed(good, FAILED, REOPENED))
    assert (state.status, state.cached, state.answers) == (RowStatus.OK, True, 0)
    rows = replayed(bad)
    assert rows.status(0) == RowStatus.PENDING
    assert rows.failures[0].error_class is ErrorClass.SCHEMA_MISMATCH
