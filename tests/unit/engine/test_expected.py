"""What is expected of answers: by answers, by the schema, by nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.expected import expected_output, first_length
from batch_llm.learned import Known
from tests.unit.engine.question_lab import SCHEMA, learned, parts_of

FREE = {"table": "out"}
STRICT = {"table": "out", "schema": SCHEMA}


def test_a_schema_says_how_long_answers_are(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=STRICT), Known())
    assert (found.origin, found.text, found.firm) == ("schema", "the schema", True)
    assert 8 <= found.low <= found.expected <= found.high <= 30


def test_how_prompts_are_billed_says_nothing_of_the_answers_a_schema_allows(tmp_path: Path) -> None:
    """A model whose tokens nobody can count, with prompts of a token per byte: of tables of numbers, say."""
    parts = parts_of(tmp_path, model="openai/of-nobody-we-know", output=STRICT)
    before, length = expected_output(parts, Known()), first_length(parts.declared, parts.tokens)
    for size in range(1_000, 1_040):
        parts.tokens.learn(size, size)
    assert expected_output(parts, Known()) == before
    assert first_length(parts.declared, parts.tokens) == length


def test_free_text_is_a_wide_range_up_to_the_cap(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=FREE, params={"max_output_tokens": 500}), Known())
    assert (found.origin, found.high, found.firm) == ("nothing", 500, False)
    assert found.low < 20
    assert found.expected > 200
    assert found.text == "nothing known: widest range"


def test_without_a_cap_the_range_has_an_end_that_is_usual(tmp_path: Path) -> None:
    assert expected_output(parts_of(tmp_path, output=FREE), Known()).high == 4_096


@pytest.mark.parametrize(
    "changes",
    [{"model": "openai/o3-mini"}, {"model": "openai/of-nobody-we-know", "params": {"reasoning_effort": "low"}}],
)
def test_a_model_that_thinks_writes_more_than_the_schema(tmp_path: Path, changes: dict[str, object]) -> None:
    parts = parts_of(tmp_path, output=STRICT, **changes)
    found = expected_output(parts, Known())
    assert (found.origin, found.firm) == ("nothing", False)
    assert found.high > 5_000
    assert first_length(parts.declared, parts.tokens) is None


def test_the_first_reservation_goes_by_the_schema(tmp_path: Path) -> None:
    assert parts_of(tmp_path, output=STRICT).output_length.predicted() < 30
    assert parts_of(tmp_path, output=FREE).output_length.predicted() == 256


def test_answers_of_this_question_win(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=FREE), Known(learned([30, 50] * 200)))
    assert (found.origin, found.answers, found.text, found.firm) == ("answers", 400, "400 answers of this job", True)
    assert found.expected == pytest.approx(40)
    assert (found.low, found.high) == (pytest.approx(38, abs=1), pytest.approx(42, abs=1))


def test_a_few_answers_that_look_alike_prove_little(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=FREE), Known(learned([40] * 5)))
    assert found.low < 30
    assert found.high > 50
    assert not found.firm


def test_answers_to_an_older_wording_are_a_hint(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=FREE), Known(older=learned([40] * 20)))
    assert (found.origin, found.answers, found.firm) == ("older answers", 0, False)
    assert (found.low, found.expected, found.high) == (pytest.approx(20), pytest.approx(40), pytest.approx(60))


def test_re_asks_are_in_the_expectation(tmp_path: Path) -> None:
    found = expected_output(parts_of(tmp_path, output=FREE), Known(learned([40] * 400, bad=[60] * 100)))
    assert found.paid_per_row == pytest.approx(1.25)
    assert found.expected == pytest.approx((40 * 400 + 60 * 100) / 400)


@given(
    st.lists(st.integers(0, 5_000), max_size=60),
    st.lists(st.integers(0, 5_000), max_size=10),
    st.one_of(st.none(), st.integers(1, 5_000)),
    st.booleans(),
)
def test_the_expected_is_always_in_the_range(lengths: list[int], bad: list[int], cap: int | None, strict: bool) -> None:
    params = {} if cap is None else {"max_output_tokens": cap}
    with tempfile.TemporaryDirectory() as folder:
        parts = parts_of(Path(folder), output=STRICT if strict else FREE, params=params)
    for known in (Known(learned(lengths, bad)), Known(older=learned(lengths).weighing(20))):
        found = expected_output(parts, known)
        assert 0 <= found.low <= found.expected <= found.high
