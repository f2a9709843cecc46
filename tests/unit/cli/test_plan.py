"""The page of `plan`."""

from decimal import Decimal

from batch_llm.cli.plan import plan_in_words
from batch_llm.engine.planning import DayNeed, Plan


def make_plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "job": "tone", "source": "/data/beige.parquet", "output": "beige_tone", "rows": 4238, "new": 4000,
        "changed": 38, "done": 190, "failed": 10, "slices": 8, "input_tokens_p50": 1500, "input_tokens_p99": 3500,
        "input_tokens_total": 6_300_000, "output_tokens_total": 80_000, "tokens_exact": True,
        "cost_low_usd": Decimal("2.65"), "cost_high_usd": Decimal("3.10"),
        "lanes": {"standard": (Decimal("2.65"), Decimal("3.10")), "batch": None},
        "minutes": 12.5, "binding": "tokens_per_minute",
        "days": [],
        "prompts": ["[user] Grade:\nfirst text", "[user] Grade:\nsecond text"], "warnings": ["mind the gap"],
    }  # fmt: skip
    return Plan(**{**values, **changes})  # type: ignore[arg-type]  # a table of test values


def test_the_page_says_all_that_is_known_before_a_cent_is_spent() -> None:
    text = plan_in_words(make_plan(), Decimal(25))
    for part in (
        "/data/beige.parquet -> beige_tone",
        "4,238: 4,000 new, 38 changed, 190 done, 10 failed before",
        "1,500 per row (p50), 3,500 (p99), 6.3M in all (counted exactly); about 80,000 out",
        "$2.65 to $3.10, budget $25.00",
        "standard: $2.65 to $3.10",
        "batch: unknown",
        "12 min 30 s at the current limits; what binds: tokens_per_minute",
        "slices    8",
        "mind the gap",
        "[user] Grade:\nfirst text",
        "[user] Grade:\nsecond text",
        "Nothing was spent.",
    ):
        assert part in text


def test_what_is_not_known_is_said_and_never_zero() -> None:
    text = plan_in_words(
        make_plan(cost_low_usd=None, cost_high_usd=None, lanes={"standard": None}, tokens_exact=False, minutes=None)
    )
    assert "cost      unknown (no price for this model" in text
    assert "(estimated)" in text
    assert "no limit is declared" in text
    assert "$0" not in text


def test_a_cost_without_an_upper_end_is_no_range() -> None:
    text = plan_in_words(make_plan(cost_high_usd=None, lanes={"standard": (Decimal("2.65"), None)}))
    assert "about $2.65, without an upper end" in text


def test_limits_per_day_are_told_in_days() -> None:
    need = DayNeed("requests_per_day", 200.0, 600, 3)
    small = DayNeed("tokens_per_day", 1_000_000.0, 300_000, 1)
    text = plan_in_words(make_plan(days=[need, small], minutes=4320.0, binding="requests_per_day"))
    assert "time      3 days at the current limits; what binds: requests_per_day\n" in text
    assert "          200 requests per day: 600 rows take 3 days\n" in text
    assert "          1,000,000 tokens per day: 300,000 tokens fit into one day\n" in text
