"""What a journal says of rows and money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.config.providers_file import PricesSpec
from batch_llm.engine.answerers import Answerer, Answerers
from batch_llm.engine.answers import Judge
from batch_llm.engine.row_state import RowState, RowStatus
from batch_llm.engine.rows import Rows
from batch_llm.errors import ErrorClass
from batch_llm.job.schema import AnswerSchema
from batch_llm.journal.base import NO_ROW, Entry, EntryKind
from batch_llm.pricing import PriceList
from batch_llm.providers.openai.chat import OpenAIChatProvider, OpenAIEndpoint

PLACE = 77
PRICES = {"input": Decimal(1), "output": Decimal(2)}  # USD per 1M tokens: 10 in + 5 out = 0.00002


def rows(prices: Any = PRICES) -> Rows:
    judge = Judge(
        OpenAIChatProvider("p", OpenAIEndpoint("http://127.0.0.1/v1", None)), AnswerSchema.from_declared(None)
    )
    price = PriceList().for_model("p", "unheard-of", PricesSpec(**prices) if prices else None)
    return Rows(Answerers(Answerer("p", "unheard-of", judge, price)), 9)


def answer(row: int, attempt: int = 1, text: str = "yes", finish: str = "stop", usage: Any = (10, 5)) -> Entry:
    body: dict[str, Any] = {"model": "m", "choices": [{"message": {"content": text}, "finish_reason": finish}]}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Entry(EntryKind.ANSWER, row, attempt, body=orjson.dumps(body), place=PLACE)


def cached(row: int, finish: str = "stop") -> Entry:
    return answer(row, finish=finish)._replace(kind=EntryKind.CACHED, attempt=0)


def sent(row: int, usd: str, attempt: int = 1) -> Entry:
    return Entry(EntryKind.SENT, row, attempt, detail={"held_usd": usd})


def state_of(known: Rows, row: int) -> RowState:
    """What is in memory of a row that is not plainly ok."""
    state = known.open_state(row)
    assert state is not None
    return state


def test_a_good_answer_ends_its_row() -> None:
    """Its place is kept; tokens, cost, and everything else is read there again."""
    known, good = rows(), answer(3)
    assert known.apply(good, PLACE) is not None
    assert known.open_state(3) is None and known.status(3) == RowStatus.OK and known.good_place(3) == PLACE
    state, values = known.judged(3, good)
    assert (state.status, state.input_tokens, state.output_tokens, state.good_place) == (RowStatus.OK, 10, 5, PLACE)
    assert (state.attempts, state.answers, state.cost_nano) == (1, 1, 20_000)
    assert known.spent_usd == Decimal("0.00002") and values == {"response": "yes"}


def test_an_answer_from_elsewhere_costs_nothing() -> None:
    """It says so, and is no attempt of this run."""
    known, good = rows(), answer(3)._replace(kind=EntryKind.CACHED, attempt=0)
    known.apply(good, PLACE)
    state, values = known.judged(3, good)
    assert (state.status, state.cached, state.attempts, state.input_tokens) == (RowStatus.OK, True, 0, 0)
    assert known.spent_usd == 0 and values == {"response": "yes"}


def test_an_answer_from_elsewhere_that_is_not_good_any_more_ends_no_row() -> None:
    """The schema is another now; asked once more, the row is its own answer's."""
    known = rows()
    assert (verdict := known.apply(cached(3, finish="length"), PLACE)) is not None
    assert verdict.error_class is ErrorClass.TRUNCATED
    assert (known.status(3), known.good_place(3), known.cached) == (RowStatus.PENDING, -1, 1)
    known.apply(Entry(EntryKind.FAILED, 3, detail={"error_class": "truncated", "message": "cut"}), 78)
    failed = state_of(known, 3)
    assert (failed.status, failed.cached, failed.attempts, failed.cost_nano) == (RowStatus.FAILED, True, 0, None)
    known.apply(Entry(EntryKind.REOPENED, 3), 79)
    known.apply(answer(3), 80)
    state, _ = known.judged(3, answer(3))
    assert (state.status, state.cached, state.attempts, state.cost_nano) == (RowStatus.OK, False, 1, 20_000)
    assert known.cached == 0


KINDS = ["good", "cut", "lost", "failed", "reopened", "twin", "cut twin"]


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(KINDS)), max_size=30))
def test_counters_are_those_of_the_rows(story: list[tuple[int, str]]) -> None:
    """Whatever happens in whatever order; and what is in memory of a plain row says the same as a whole state would."""
    stored: list[Entry] = []
    known, attempts = rows(), [0] * 9
    known.entry_at = stored.__getitem__
    for place, (row, what) in enumerate(story):
        attempts[row] += what in ("good", "cut", "lost")
        detail = {"error_class": "truncated", "message": "cut"}
        entry = {
            "good": answer(row, attempts[row]),
            "cut": answer(row, attempts[row], finish="length"),
            "lost": Entry(EntryKind.LOST, row, attempts[row]),
            "failed": Entry(EntryKind.FAILED, row, attempts[row], detail=detail),
            "reopened": Entry(EntryKind.REOPENED, row),
            "twin": cached(row),
            "cut twin": cached(row, finish="length"),
        }[what]
        stored.append(entry._replace(place=place))
        known.apply(entry, place)
    statuses = [known.status(row) for row in range(9)]
    assert (known.ok, known.failed_count) == (statuses.count(RowStatus.OK), statuses.count(RowStatus.FAILED))
    cached_rows = 0
    for row in range(9):
        good = stored[known.good_place(row)] if known.good_place(row) >= 0 else None
        state, _ = known.judged(row, good)
        assert state.status == known.status(row) and state.attempts == attempts[row]
        answers = sum(each == row and what in ("good", "cut") for each, what in story)
        assert (state.answers, state.cost_nano or 0) == (answers, 20_000 * answers)
        own_stands = good is not None and good.kind is EntryKind.ANSWER
        assert not (state.cached and own_stands) and (state.cached or good is None or own_stands)
        cached_rows += state.cached
    assert known.cached == cached_rows


def test_a_bad_answer_is_paid_and_does_not_end_its_row() -> None:
    """Cut short, empty, garbled: counted in the bill, never kept as good."""
    for bad in (answer(0, finish="length"), answer(0, text=" "), answer(0, finish="other")):
        known = rows()
        verdict = known.apply(bad, PLACE)
        assert verdict is not None and verdict.error_class is not None
        assert known.status(0) == RowStatus.PENDING
        assert known.spent_usd == Decimal("0.00002")


def test_a_bad_answer_uses_up_a_re_ask_only_where_the_table_says_so() -> None:
    """Empty and garbled ones use up attempts."""
    known = rows()
    known.replay([answer(0, 1, text=" "), answer(0, 2, finish="other"), answer(0, 3, finish="length")])
    state = state_of(known, 0)
    assert (state.bad_answers, state.re_asks_used, state.cuts) == (3, 1, 1)


def test_the_last_answers_tokens_are_unknown_where_it_states_none() -> None:
    """Not nothing, and not those of the answer before it."""
    known = rows()
    for place, (usage, last) in enumerate([((10, 5), 5), (None, None), ((10, 7), 7)]):
        known.apply(answer(0, place + 1, finish="length", usage=usage), place)
        assert state_of(known, 0).last_output_tokens == last


def test_all_answers_of_a_row_are_in_its_bill() -> None:
    """A re-ask is paid as well."""
    known = rows()
    known.replay([answer(0, 1, finish="length"), answer(0, 2)])
    state = state_of(known, 0)
    assert (state.status, state.attempts, state.cost_nano) == (RowStatus.OK, 2, 40_000)


def test_an_unknown_price_or_usage_is_unknown_not_zero() -> None:
    """The cost of such a row is None."""
    unpriced = rows(prices=None)
    unpriced.apply(answer(0), PLACE)
    assert unpriced.judged(0, answer(0))[0].cost_nano is None
    silent = rows()
    silent.apply(answer(0, usage=None), PLACE)
    assert state_of(silent, 0).usage_unknown and state_of(silent, 0).cost_nano is None


def test_an_answer_costs_what_its_pool_says() -> None:
    """One that notes no pool, or one that is gone, costs the dearest; an unknown price makes the row's cost unknown."""
    cheap, dear = (rows(prices={"input": Decimal(usd), "output": Decimal(usd)}).answerers.own.price for usd in (1, 3))
    judge = rows().answerers.own.judge
    cost = {}
    for pool in ("cheap", "dear", "gone", None, "unknown"):
        by_pool = {"cheap": cheap, "dear": dear, "unknown": None}
        known = Rows(Answerers(Answerer("p", "m", judge, dear, by_pool)), 9)
        told = answer(0)._replace(detail={} if pool is None else {"pool": pool})
        known.apply(told, PLACE)
        state = known.judged(0, told)[0]
        cost[pool] = state.cost_nano
        assert state.price_unknown == (pool == "unknown") == (state.price_version is None)
    assert cost["dear"] == cost["gone"] == cost[None] == 3 * (cost["cheap"] or 0) > 0
    assert cost["unknown"] is None


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


def test_a_retried_slice_is_about_no_row() -> None:
    """Only that failures of other runs do not count in it any more."""
    known = rows()
    known.replay([answer(8), Entry(EntryKind.RETRIED, NO_ROW)])
    assert (known.retried, known.ok, known.failed_count) == (True, 1, 0)
    assert [known.open_state(row) for row in (0, 8)] == [None, None]


def test_a_lost_call_says_itself_what_was_held_where_no_intent_was_noted() -> None:
    """No budget was given then; with one, the intent counts once."""
    known, detail = rows(), {"held_usd": "0.5"}
    lost = [Entry(EntryKind.LOST, row, 1, detail=detail) for row in (0, 1)]
    known.replay([lost[0], sent(1, "0.5"), lost[1], Entry(EntryKind.LOST, 2, 1)])
    assert known.spent_usd == Decimal(1)


def test_a_reopened_row_is_open_again_and_keeps_its_bill() -> None:
    """Its attempts go on counting."""
    known = rows()
    detail = {"error_class": "truncated", "message": "cut"}
    known.replay([answer(0, finish="length"), Entry(EntryKind.FAILED, 0, 1, place=70, detail=detail)])
    assert known.failed(below=71) == [0] and known.failed(below=70) == []
    known.apply(Entry(EntryKind.REOPENED, 0), PLACE)
    state = state_of(known, 0)
    assert (state.status, state.error_class, state.bad_answers, state.attempts) == (RowStatus.PENDING, None, 0, 1)
    assert (state.re_asks_used, state.cuts) == (0, 0)
    assert state.cost_nano == 20_000


def test_what_is_remembered_of_the_spending_is_what_a_replay_says() -> None:
    """A call whose outcome could not be stored, on a full disk: its intent is in the journal."""
    known, again = rows(), rows()
    entries = [sent(0, "1.5"), answer(0), sent(1, "2.5")]
    for entry in entries:
        known.apply(entry, PLACE)
    again.replay(entries)
    assert known.owed_usd == again.owed_usd == again.spent_usd == Decimal("2.50002")
