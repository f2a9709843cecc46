"""The figures of a plan: a range that holds what is expected, stored with the run, looked at again."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.estimating import Estimate
from batch_llm.engine.parts import JobParts
from batch_llm.engine.planned import Planned, planned
from batch_llm.engine.sampling import EvenSample
from batch_llm.learned import AnswerEvidence, Known, Learned, PromptEvidence
from tests.unit.engine.question_lab import SCHEMA, learned, parts_of

STRICT = {"table": "out", "schema": SCHEMA}
NO_ENCODING = {"prices": {"input": "1.00", "output": "2.00"}}


def seen(rows: list[tuple[int, int]], most: int = 101) -> Estimate:
    """An estimate of new rows, each (bytes, tokens)."""
    found = Estimate(len(rows), new=len(rows), sample=EvenSample(most))
    for size, tokens in rows:
        if found.sample.wants(size):
            found.sample.take(size, tokens, size)
    return found


def free(tmp_path: Path) -> JobParts:
    return parts_of(tmp_path, NO_ENCODING, model="openai/of-nobody-we-know", params={"max_output_tokens": 400})


def test_a_schema_and_counted_rows_make_a_firm_plan(tmp_path: Path) -> None:
    plan = planned(parts_of(tmp_path, output=STRICT), seen([(400, 100)] * 50), Known())
    assert plan.firm and plan.exact
    assert plan.input_tokens == 5_000
    assert plan.cost_usd == pytest.approx(Decimal(plan.input_tokens * 15 + plan.output_tokens * 60) / 10**8)
    assert plan.output_from == "the schema"


def test_free_text_is_looked_at_again_after_some_answers(tmp_path: Path) -> None:
    parts = free(tmp_path)
    first = planned(parts, seen([(400, 100)] * 50), Known())
    assert not first.firm
    again = first.looked_at_again(parts, Known(learned([40] * 200)))
    assert again.firm
    assert (again.output_tokens, again.input_tokens) == (2_000, 5_200)
    assert (again.after_answers, again.first_cost_usd) == (200, first.cost_usd)
    assert again.looked_at_again(parts, Known(learned([50] * 300))).first_cost_usd == first.cost_usd


def test_it_comes_back_from_the_record_equal(tmp_path: Path) -> None:
    plan = planned(free(tmp_path), seen([(400, 100)] * 50), Known())
    assert Planned.from_data(orjson.loads(orjson.dumps(plan.as_data()))) == plan


@pytest.mark.parametrize("data", [None, {}, {"rows": 3}])
def test_what_another_version_wrote_is_no_plan(data: dict[str, object] | None) -> None:
    assert Planned.from_data(data) is None


def test_what_frames_a_call_for_many_rows_is_planned_once_for_each_call(tmp_path: Path) -> None:
    """Learned from calls of unequal size, as they are when a budget is nearly used up."""
    vectors = {"kind": "embedding", "params": {"dimensions": 8}, "prompt": {"user": "{{ text }}"}}
    parts = parts_of(tmp_path, NO_ENCODING, model="openai/of-nobody-we-know", **vectors)
    prompts, answers = PromptEvidence(), AnswerEvidence()
    for rows in range(1, 41):
        prompts.note(400 * rows, 100 * rows + 12)
        answers.note(0)
    plan = planned(parts, seen([(400, 100)] * 2_000), Known(Learned(prompts, answers)))
    assert plan.requests < 1_000 and plan.input_tokens == 200_000 + 12 * plan.requests


def test_an_unknown_price_is_none_and_never_zero(tmp_path: Path) -> None:
    plan = planned(parts_of(tmp_path, model="openai/of-nobody-we-know"), seen([(400, 100)] * 5), Known())
    assert (plan.cost_low_usd, plan.cost_usd, plan.cost_high_usd) == (None, None, None)
    assert Planned.from_data(plan.as_data()) == plan


def test_nothing_to_ask_costs_nothing(tmp_path: Path) -> None:
    plan = planned(free(tmp_path), seen([]), Known())
    assert (plan.rows, plan.input_tokens, plan.output_tokens_high, plan.cost_high_usd) == (0, 0, 0, 0)


@given(
    st.lists(st.tuples(st.integers(1, 4_000), st.integers(1, 1_200)), min_size=1, max_size=300),
    st.lists(st.integers(1, 400), min_size=0, max_size=60),
)
def test_the_range_holds_what_is_expected(rows: list[tuple[int, int]], lengths: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(free(Path(folder)), seen(rows), Known(learned(lengths)))
    assert 0 <= plan.input_tokens_low <= plan.input_tokens <= plan.input_tokens_high
    assert 0 <= plan.output_tokens_low <= plan.output_tokens <= plan.output_tokens_high
    assert plan.cost_low_usd is not None and plan.cost_usd is not None and plan.cost_high_usd is not None
    assert 0 <= plan.cost_low_usd <= plan.cost_usd <= plan.cost_high_usd


@given(st.lists(st.integers(1, 400), min_size=1, max_size=200))
def test_known_answers_lie_in_the_range(lengths: list[int]) -> None:
    """When the rows to ask are answered as those that are known were, the end is in the range."""
    with tempfile.TemporaryDirectory() as folder:
        plan = planned(free(Path(folder)), seen([(400, 100)] * len(lengths)), Known(learned(lengths)))
    assert plan.output_tokens_low <= sum(lengths) <= plan.output_tokens_high
    assert plan.input_tokens_low <= 104 * len(lengths) <= plan.input_tokens_high
