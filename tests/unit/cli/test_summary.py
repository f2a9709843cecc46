"""A run's end, for scripts and for people."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal

import pytest

from batch_llm.cli.speech import print_json
from batch_llm.cli.summary import summary_as_json, summary_in_words
from batch_llm.engine.events import PlanFigures, RunSummary

# DESIGN.md, section 2: names that users' scripts rely on
PROMISED = [
    "job", "run_id", "rows", "ok", "failed", "pending", "cached", "requests", "attempts", "input_tokens",
    "output_tokens", "cost_usd", "wall_s", "output",
]  # fmt: skip


def test_run_json_has_the_promised_keys(summary: Callable[..., RunSummary], capsys: pytest.CaptureFixture[str]) -> None:
    print_json(summary_as_json(summary(failed_by_class={"timeout": 2})))
    found = json.loads(capsys.readouterr().out)
    assert list(found)[: len(PROMISED)] == PROMISED
    assert found["cost_usd"] == 0.000000123
    assert found["failed_by_class"] == {"timeout": 2}
    assert set(found) <= {field.name for field in fields(RunSummary)}


def test_who_answered_is_told_where_a_fallback_could_have(summary: Callable[..., RunSummary]) -> None:
    by_model = {"azure/b": 1_537, "openai/a": 9_000}
    assert summary_as_json(summary(rows_by_model=by_model))["rows_by_model"] == by_model
    assert "answered by azure/b 1,537, openai/a 9,000" in summary_in_words(summary(rows_by_model=by_model))
    assert "answered by" not in summary_in_words(summary())


def test_an_unknown_cost_is_null(summary: Callable[..., RunSummary]) -> None:
    assert summary_as_json(summary(cost_usd=None))["cost_usd"] is None
    assert "cost unknown" in summary_in_words(summary(cost_usd=None))


def test_calls_that_a_limit_refused_are_told_apart(summary: Callable[..., RunSummary]) -> None:
    text = summary_in_words(summary(requests=572, attempts=526, throttled=46))
    assert "requests 572 now (46 of them refused by a limit), attempts 526 in the" in text
    assert "refused" not in summary_in_words(summary(requests=39, attempts=0))


def test_failed_rows_come_with_what_to_do(summary: Callable[..., RunSummary]) -> None:
    text = summary_in_words(summary(ok=93, failed=7, failed_by_class={"timeout": 2, "refused": 5}))
    assert "93 ok, 7 failed (refused 5, timeout 2), 0 pending" in text
    assert "batch-llm failed tone" in text
    assert "batch-llm retry tone" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nothing_to_do": True}, "nothing to do"),
        ({"stopped": "sample", "ok": 5, "pending": 95}, "This was a sample"),
        ({"stopped": "cancelled", "ok": 5, "pending": 95}, "Stopped early: cancelled. The same command goes on"),
        (
            {"stopped": "authentication", "ok": 0, "pending": 100},
            "authentication. Correct the model, or the provider's",
        ),
        ({"stopped": "daily_quota", "ok": 5, "pending": 95}, "daily_quota. Run it again when there is quota"),
        ({"stopped": "budget", "ok": 5, "pending": 95}, "raise budget_usd (or the cap named above), then run it again"),
        ({"stopped": "budget", "ok": 0, "pending": 100}, "or set params.max_output_tokens lower"),
        ({"cost_unknown_rows": 20}, "and 20 rows of unknown cost"),
        ({"blocked": "7 of 100 rows failed"}, "Not promoted: 7 of 100 rows failed"),
    ],
)
def test_an_end_that_is_not_plain_is_explained(
    summary: Callable[..., RunSummary], changes: dict[str, object], words: str
) -> None:
    assert words in summary_in_words(summary(**changes))
    assert words not in summary_in_words(summary())


def test_vectors_have_no_length_that_could_be_set_lower(summary: Callable[..., RunSummary]) -> None:
    text = summary_in_words(summary(kind="embedding", stopped="budget", ok=0, pending=100))
    assert "raise budget_usd (or the cap named above), then run it again" in text
    assert "max_output_tokens" not in text


PLANNED = PlanFigures(100, Decimal("0.90"), Decimal("2.10"), 1_000, 500, "the schema")


def test_actual_stands_against_planned(summary: Callable[..., RunSummary]) -> None:
    found = summary(
        cost_usd=Decimal("1.23"),
        planned_cost_usd=Decimal("1.20"),
        planned=PLANNED,
        input_tokens=1_010,
        output_tokens=450,
    )
    text = summary_in_words(found)
    assert "cost $1.23, planned $1.20 ($0.9000 to $2.10), +2.5%" in text
    assert "1,010 in (planned 1,000, +1.0%) and 450 out (planned 500, -10.0%)" in text
    assert "planned after" not in text
    told = summary_as_json(found)
    assert told["planned_cost_usd"] == Decimal("1.20")
    assert told["planned"]["cost_high_usd"] == Decimal("2.10")


def test_a_plan_that_was_looked_at_again_says_so(summary: Callable[..., RunSummary]) -> None:
    plan = replace(PLANNED, after_answers=200, first_cost_usd=Decimal("4.00"))
    text = summary_in_words(summary(cost_usd=Decimal(1), planned_cost_usd=Decimal(1), planned=plan))
    assert "planned after 200 answers; before the first: $4.00" in text


def test_what_is_pending_makes_no_difference_to_the_plan(summary: Callable[..., RunSummary]) -> None:
    found = summary(ok=5, pending=95, cost_usd=Decimal("0.05"), planned_cost_usd=Decimal(1), planned=PLANNED)
    assert "cost $0.0500, planned $1.00 ($0.9000 to $2.10) for all rows\n" in summary_in_words(found)


def test_a_plan_without_a_price_tells_tokens(summary: Callable[..., RunSummary]) -> None:
    plan = replace(PLANNED, cost_low_usd=None, cost_high_usd=None)
    text = summary_in_words(summary(cost_usd=None, planned=plan))
    assert "cost unknown\n" in text
    assert "(planned 1,000" in text
