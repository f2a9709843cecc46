"""How long a plan says that a run takes."""

from __future__ import annotations

import pytest

from batch_llm.engine.planning import DayNeed, Needs, days_needed, time_needed
from batch_llm.limiter.base import Limits

NEEDS = Needs(requests=600, input_tokens=60_000, output_tokens=12_000)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, (None, None)),
        ({"requests_per_minute": 60}, (10.0, "requests_per_minute")),
        ({"requests_per_minute": 60, "tokens_per_minute": 3_600}, (20.0, "tokens_per_minute")),
        ({"input_tokens_per_minute": 6_000, "output_tokens_per_minute": 600}, (20.0, "output_tokens_per_minute")),
        ({"requests_per_minute": 3, "requests_per_day": 200}, (3 * 1440.0, "requests_per_day")),
        ({"requests_per_minute": 3, "requests_per_day": 600}, (200.0, "requests_per_minute")),
        ({"requests_per_day": 200, "tokens_per_day": 10_000}, (7.2 * 1440, "tokens_per_day")),
        ({"requests_per_day": 1_000}, (0.0, "requests_per_day")),
    ],
)
def test_the_slowest_limit_decides(limits: dict[str, float], expected: tuple[float | None, str | None]) -> None:
    assert time_needed(Limits("p", **limits), NEEDS) == expected  # type: ignore[arg-type]


def test_days_that_have_begun_count() -> None:
    limits = Limits("p", requests_per_day=250, tokens_per_day=72_000)
    assert days_needed(limits, NEEDS) == [
        DayNeed("requests_per_day", 250, 600, 3),
        DayNeed("tokens_per_day", 72_000, 72_000, 1),
    ]
