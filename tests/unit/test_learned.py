"""Evidence adds up in any order, stays small, and says what was put in."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.learned import MOST_ANSWERS, AnswerEvidence, Known, Learned, PromptEvidence

BILLS = st.tuples(st.integers(1, 100_000), st.integers(1, 30_000), st.booleans())


def learned_from(bills: list[tuple[int, int, bool]]) -> Learned:
    prompts, answers = PromptEvidence(), AnswerEvidence()
    for size, tokens, good in bills:
        prompts.note(size, tokens, cached_tokens=tokens // 3, counted_tokens=tokens - 2)
        answers.note(tokens % 700, good=good)
    return Learned(prompts, answers)


@given(st.lists(st.lists(BILLS, max_size=8), max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_processes_bring_theirs_changes_nothing(
    parts: list[list[tuple[int, int, bool]]], random: object
) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = learned_from([bill for part in parts for bill in part])
    assert reduce(Learned.merge, map(learned_from, parts), Learned()) == whole
    assert reduce(Learned.merge, map(learned_from, shuffled), Learned()) == whole


@given(st.lists(BILLS, max_size=20))
def test_it_comes_back_from_json_equal(bills: list[tuple[int, int, bool]]) -> None:
    learned = learned_from(bills)
    assert Learned.from_json(learned.as_json()) == learned


@given(st.lists(st.integers(0, 131_072), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_quantile_is_at_most_five_per_cent_off(lengths: list[int], share: float) -> None:
    answers = AnswerEvidence()
    for tokens in lengths:
        answers.note(tokens)
    in_order = sorted(lengths)
    true = in_order[min(len(in_order) - 1, max(0, -int(-share * len(in_order) // 1) - 1))]
    assert true <= answers.quantile(share) <= true * 1.06 + 1


def test_the_lengths_of_any_number_of_answers_are_some_hundred_numbers() -> None:
    answers = AnswerEvidence()
    for tokens in range(0, 131_072, 13):
        answers.note(tokens)
    assert len(answers.lengths) < 250


def test_framing_is_told_from_text_where_prompts_differ() -> None:
    prompts = PromptEvidence()
    for size in range(100, 2_100, 50):
        prompts.note(size, 11 + size // 5)
    framing, per_byte = prompts.line or (0.0, 0.0)
    assert framing == pytest.approx(11, abs=1)
    assert per_byte == pytest.approx(0.2, rel=0.01)


def test_what_is_sent_and_not_billed_is_framing_below_zero() -> None:
    """Such as a schema: the bill of a longer prompt is then not in proportion to its bytes."""
    prompts = PromptEvidence()
    for size in range(300, 700, 10):
        prompts.note(size, (size - 200) // 4)
    framing, per_byte = prompts.line or (0.0, 0.0)
    assert framing + per_byte * 1_000 == pytest.approx(200, rel=0.01)


def test_bills_that_do_not_follow_the_length_make_no_line() -> None:
    prompts = PromptEvidence()
    for number in range(100):
        prompts.note(300 + number, 100 + 40 * (number % 7))
    assert prompts.line == (0.0, pytest.approx(prompts.tokens / prompts.bytes))


@pytest.mark.parametrize("size", [[300] * 40, [300, 600]])
def test_where_they_cannot_be_told_apart_there_is_a_ratio(size: list[int]) -> None:
    prompts = PromptEvidence()
    for one in size:
        prompts.note(one, one // 3)
    assert prompts.line == (0.0, pytest.approx(1 / 3))


def test_nothing_learned_is_nothing_known() -> None:
    nothing = Learned()
    assert nothing.prompts.line is None
    assert (nothing.answers.mean, nothing.answers.quantile(0.5), nothing.answers.paid_per_good) == (0.0, 0, 1.0)


def test_re_asks_are_paid_by_the_rows_that_end_well() -> None:
    answers = AnswerEvidence()
    for _ in range(8):
        answers.note(10)
    for _ in range(2):
        answers.note(30, good=False)
    assert answers.mean == 10
    assert answers.paid_per_good == pytest.approx(10 / 8)
    assert answers.tokens_per_good == pytest.approx(140 / 8)


def test_a_lot_is_made_lighter_and_says_the_same() -> None:
    learned = learned_from([(400, 100, True), (800, 200, True)] * MOST_ANSWERS)
    light = learned.bounded()
    assert light.answers.good <= MOST_ANSWERS
    assert light.answers.mean == pytest.approx(learned.answers.mean, rel=0.001)
    assert light.answers.quantile(0.9) == learned.answers.quantile(0.9)
    assert light.prompts.line == pytest.approx(learned.prompts.line, rel=0.001)
    assert Learned().bounded() == Learned()


def test_an_older_wording_weighs_little() -> None:
    older = learned_from([(400, 100, True)] * 1_000).weighing(20)
    own = learned_from([(400, 400, True)] * 180)
    both = Known(own, older).both
    assert both.answers.good == 200
    assert both.answers.mean == pytest.approx((180 * 400 + 20 * 100) / 200)
