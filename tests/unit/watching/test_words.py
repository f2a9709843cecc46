"""Words for counts, money and time."""

from decimal import Decimal

import pytest

from batch_llm.watching import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (Decimal(0), "$0.00"),
        (Decimal("0.00001"), "< $0.0001"),
        (Decimal("0.00512"), "$0.0051"),
        (Decimal("1234.5"), "$1,234.50"),
    ],
)
def test_unknown_money_is_not_zero_and_little_is_not_nothing(value: Decimal | None, text: str) -> None:
    assert words.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("0E-9", "0"), ("2.0E-8", "0.00000002"), ("0.000056300", "0.0000563"), ("10", "10"), ("1E+2", "100")],
)
def test_a_decimal_number_has_no_exponent(value: str, text: str) -> None:
    assert words.plain(Decimal(value)) == words.one_line(Decimal(value)) == text
    assert words.plain("0E-9") == "0E-9"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (725, "12 min 05 s"),
     (3 * 3600 + 300, "3 h 05 min"), (100_000, "27 h 46 min")],
)  # fmt: skip
def test_durations_read_well(value: float | None, text: str) -> None:
    assert words.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.4, "0.4"), (950, "950"), (98_000.0, "98,000"), (480.04, "480"), (1_250_000, "1.2M")],
)
def test_counts_read_well(value: float | None, text: str) -> None:
    assert words.number(value) == text
