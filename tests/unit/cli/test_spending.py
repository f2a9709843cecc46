"""Nothing above the stated cost is spent without consent."""

import io
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from batch_llm.cli.spending import NO_CAP, Consent, Estimate, estimate_of_plan, make_sure, parse_usd
from batch_llm.engine.planning import FallbackCost, Plan
from batch_llm.errors import Cancelled, ConfigurationError


def plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "job": "tone", "source": "a.parquet", "output": "tone", "rows": 100, "new": 30, "changed": 10, "done": 58,
        "failed": 2, "slices": 1, "input_tokens_p50": 10, "input_tokens_p99": 20, "input_tokens_total": 400,
        "input_tokens_low": 400, "input_tokens_high": 400, "counted": "exact", "counted_rows": 40,
        "output_tokens_total": 80, "output_tokens_low": 60, "output_tokens_high": 90, "output_from": "the schema",
        "cost_low_usd": Decimal(1), "cost_expected_usd": Decimal(2), "cost_high_usd": Decimal(3),
        "cost_dearest_usd": Decimal(4),
        "lanes": {}, "minutes": 1.0, "binding": "requests_per_minute", "days": [], "prompts": [], "warnings": [],
    }  # fmt: skip
    return Plan(**{**values, **changes})


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> Terminal:
    monkeypatch.setattr("sys.stdin", Terminal(text))
    stderr = Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    return stderr


def test_the_estimate_is_the_dearest_bill_of_the_rows_to_ask() -> None:
    assert estimate_of_plan(plan()) == Estimate(40, Decimal(4))


def test_the_dearest_model_counts_where_a_fallback_may_answer() -> None:
    """And one whose bill nobody knows makes it unknown."""
    dear = FallbackCost("a/b", Decimal(10), Decimal(20), Decimal(30), Decimal(40))
    assert estimate_of_plan(plan(fallbacks=(dear,)), limit=10) == Estimate(10, Decimal(10))
    assert estimate_of_plan(plan(fallbacks=(replace(dear, cost_dearest_usd=Decimal(1)),))) == Estimate(40, Decimal(4))
    uncapped = estimate_of_plan(plan(fallbacks=(replace(dear, cost_dearest_usd=None),)))
    assert uncapped.upper_usd is None and "max_output_tokens" in uncapped.reason
    assert estimate_of_plan(plan(fallbacks=(FallbackCost("a/b", None, None, None, None),))) == Estimate(40, None)


def test_a_sample_costs_its_share() -> None:
    assert estimate_of_plan(plan(), limit=10) == Estimate(10, Decimal(1))
    assert estimate_of_plan(plan(), limit=1000) == Estimate(40, Decimal(4))


def test_nothing_to_ask_costs_nothing_whatever_the_price() -> None:
    assert estimate_of_plan(plan(new=0, changed=0, cost_dearest_usd=None)) == Estimate(0, Decimal(0))


def test_an_estimate_without_an_upper_end_says_why() -> None:
    assert "price is unknown" in estimate_of_plan(plan(cost_low_usd=None, cost_dearest_usd=None)).text
    assert "max_output_tokens gives no number" in estimate_of_plan(plan(cost_dearest_usd=None)).text


@pytest.mark.parametrize(
    ("estimate", "consent"),
    [
        (Estimate(40, Decimal(1)), Consent()),
        (Estimate(40, Decimal(4)), Consent(above_usd=Decimal(4))),
        (Estimate(40, Decimal(4)), Consent(yes=True)),
        (Estimate(40, None), Consent(yes=True)),
        (Estimate(0, None), Consent()),
    ],
)
@pytest.mark.usefixtures("no_terminal")
def test_little_money_or_consent_given_beforehand_needs_no_question(estimate: Estimate, consent: Consent) -> None:
    make_sure(estimate, consent)  # raises otherwise
    assert estimate.rows >= 0


@pytest.mark.parametrize("estimate", [Estimate(40, Decimal("1.01")), Estimate(40, None)])
@pytest.mark.usefixtures("no_terminal")
def test_without_a_terminal_it_is_refused(estimate: Estimate) -> None:
    with pytest.raises(ConfigurationError, match=r"40 rows.*--yes.*Nothing was spent"):
        make_sure(estimate, Consent())


@pytest.mark.parametrize(
    ("estimate", "helps", "does_not"),
    [
        (Estimate(40, Decimal("1.011")), ["--yes", "--confirm-above 1.02"], ["price", "max_output_tokens"]),
        (Estimate(40, None), ["--yes", "price", "budget_usd"], ["max_output_tokens"]),
        (Estimate(40, None, NO_CAP), ["--yes", "max_output_tokens to a number", "budget_usd to $1.00 or"], ["price"]),
    ],
)
@pytest.mark.usefixtures("no_terminal")
def test_the_refusal_names_what_helps_in_this_case(estimate: Estimate, helps: list[str], does_not: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_sure(estimate, Consent())
    advice = str(refused.value).partition("is spent. ")[2]
    assert all(words in advice for words in helps) and not any(words in advice for words in does_not)


@pytest.mark.parametrize("text", ["n\n", "\n"])
def test_in_a_terminal_no_is_the_answer_unless_yes_is_said(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    stderr = answer(monkeypatch, text)
    with pytest.raises(Cancelled, match="nothing was spent"):
        make_sure(Estimate(1, Decimal("4.2")), Consent())
    assert "asking 1 row; this costs up to $4.20. Go on?" in stderr.getvalue()


def test_in_a_terminal_yes_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = answer(monkeypatch, "y\n")
    make_sure(Estimate(40, None), Consent())
    assert "not known beforehand. Go on?" in stderr.getvalue()


@pytest.mark.parametrize(("text", "usd"), [("5", "5"), (" 0.50", "0.50"), ("$12", "12"), ("0", "0")])
def test_money_is_read_exactly(text: str, usd: str) -> None:
    assert parse_usd(text) == Decimal(usd)


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "inf", "1,5"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="US dollars"):
        parse_usd(text)
