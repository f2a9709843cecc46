"""The page of `plan`."""

from dataclasses import replace
from decimal import Decimal

from batch_llm.cli.plan import plan_in_words
from batch_llm.engine.expected import OF_VECTORS
from batch_llm.engine.planning import DayNeed, FallbackCost, Plan
from batch_llm.statement_costs import WarehouseBill
from batch_llm.warehouse.base import ExpectedStatement


def make_plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "job": "tone", "source": "/data/beige.parquet", "output": "beige_tone", "rows": 4238, "new": 4000,
        "changed": 38, "done": 190, "failed": 10, "slices": 8, "input_tokens_p50": 1500, "input_tokens_p99": 3500,
        "input_tokens_total": 6_300_000, "input_tokens_low": 6_200_000, "input_tokens_high": 6_400_000,
        "counted": "exact", "counted_rows": 4038,
        "output_tokens_total": 80_000, "output_tokens_low": 70_000, "output_tokens_high": 99_000,
        "output_from": "the schema",
        "cost_low_usd": Decimal("2.65"), "cost_expected_usd": Decimal("2.80"), "cost_high_usd": Decimal("3.10"),
        "cost_dearest_usd": Decimal("4.20"),
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
        "1,500 tokens per row (p50), 3,500 (p99), 6.3M in all (counted, every row)",
        "about 80,000 tokens, 70,000 to 99,000 (by: the schema)",
        "about $2.80, $2.65 to $3.10; at the dearest $4.20, budget $25.00",
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


def test_of_a_long_prompt_the_beginning_is_shown_unless_all_of_it_is_asked_for() -> None:
    by_lines, by_characters = "\n".join(map(str, range(1_000))), "x" * 1_000_000
    plan = make_plan(prompts=[by_lines, by_characters])
    page = plan_in_words(plan)
    assert len(page) < 6_000
    assert "\n29\n.. (3,810 more characters; --full shows them)" in page
    assert "x\n.. (997,000 more characters; --full shows them)" in page
    assert by_lines in plan_in_words(plan, full=True) and by_characters in plan_in_words(plan, full=True)


def test_vectors_have_no_output_tokens_to_tell_of() -> None:
    assert "\noutput  " in plan_in_words(make_plan())
    assert "\noutput  " not in plan_in_words(make_plan(output_from=OF_VECTORS))


def test_what_is_not_known_is_said_and_never_zero() -> None:
    text = plan_in_words(
        make_plan(
            cost_low_usd=None,
            cost_expected_usd=None,
            cost_high_usd=None,
            cost_dearest_usd=None,
            lanes={"standard": None},
            counted="estimated",
            minutes=None,
        )
    )
    assert "cost      unknown (no price for this model" in text
    assert "(estimated from the texts' bytes, in 4,038 rows)" in text
    assert "no limit is declared" in text
    assert "$0" not in text


def test_what_the_warehouse_bills_is_told_where_it_bills() -> None:
    """As far as it is known; what cannot be known before is not called nothing."""
    later = (ExpectedStatement("prior", 1, 20_971_520, 20_971_520), ExpectedStatement("published", 9, None, 10_485_760))
    bill = WarehouseBill(2, 31_457_280, 1_500, None)
    text = plan_in_words(make_plan(freeze_bytes=1_234_500_000, freeze_kept_minutes=15.0, warehouse=later, billed=bill))
    freeze = "warehouse freeze 1,234.5 MB of the input (by a dry run), "
    assert f"{freeze}once for plan and run, if the run begins within 15 min" in text
    assert f"{freeze}by the plan and again by the run" in plan_in_words(make_plan(freeze_bytes=1_234_500_000))
    assert "prior 21.0 MB (by a dry run)\n" in text
    assert "published cannot be known before; 10.5 MB at least, 9 times" in text
    assert "No model was asked. The warehouse, for this plan: 31.5 MB billed in 2 statements, slot time 1.5 s, " in text
    assert "Nothing was spent" not in text
    again = plan_in_words(make_plan(freeze_bytes=1_234_500_000))
    assert "Nothing was spent" in again, "the rows of an earlier plan were used"
    assert "warehouse" not in plan_in_words(make_plan())


def test_what_each_fallback_would_cost_is_told_beside_it() -> None:
    """One line each, as if all rows went there; an unknown price is never nothing."""
    dear = FallbackCost("a/dear", Decimal(26), Decimal(28), Decimal(31), Decimal(42))
    uncapped, unknown = replace(dear, model="b/c", cost_dearest_usd=None), FallbackCost("d/e", None, None, None, None)
    text = plan_in_words(make_plan(fallbacks=(dear, uncapped, unknown)))
    assert "if a/dear answered all: about $28.00, $26.00 to $31.00; at the dearest $42.00\n" in text
    assert "if b/c answered all: about $28.00, $26.00 to $31.00\n" in text
    assert "fallback d/e: unknown (no price" in text


def test_a_cost_without_a_cap_has_no_dearest_bill() -> None:
    text = plan_in_words(make_plan(cost_dearest_usd=None))
    assert "about $2.80, $2.65 to $3.10" in text
    assert "dearest" not in text


def test_a_sample_says_how_large_it_was() -> None:
    assert "counted in a sample of 996 rows" in plan_in_words(make_plan(counted="sampled", counted_rows=996))


def test_limits_per_day_are_told_in_days() -> None:
    need = DayNeed("requests_per_day", 200.0, 600, 3)
    small = DayNeed("tokens_per_day", 1_000_000.0, 300_000, 1)
    text = plan_in_words(make_plan(days=[need, small], minutes=4320.0, binding="requests_per_day"))
    assert "time      3 days at the current limits; what binds: requests_per_day\n" in text
    assert "          200 requests per day: 600 rows take 3 days\n" in text
    assert "          1,000,000 tokens per day: 300,000 tokens fit into one day\n" in text
