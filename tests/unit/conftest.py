"""What unit tests of several folders share: records with sensible values."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from batch_llm.engine.events import Progress, RunSummary


@pytest.fixture
def progress() -> Callable[..., Progress]:
    """A Progress event; any field can be given."""

    def make(**changes: Any) -> Progress:
        values: dict[str, Any] = {
            "run_id": "tone-20260101-000000-abcd",
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "elapsed_s": 10.0,
            "rows": 4238,
            "ok": 1190,
            "failed": 10,
            "cached": 5,
            "in_flight": 45,
            "requests": 1203,
            "retries": 3,
            "input_tokens": 1_250_000,
            "output_tokens": 12_345,
            "cost_usd": Decimal("0.5123"),
            "requests_per_minute": 480.04,
            "tokens_per_minute": 98_000.0,
            "limit_requests_per_minute": 500.0,
            "limit_tokens_per_minute": None,
            "holding_back": "the limit on requests per minute",
            "eta_s": 725.0,
            "errors": {"timeout": 1, "server_error": 2},
        }
        return Progress(**{**values, **changes})

    return make


@pytest.fixture
def summary() -> Callable[..., RunSummary]:
    """A RunSummary of a run whose rows are all ok; any field can be given."""

    def make(**changes: Any) -> RunSummary:
        values: dict[str, Any] = {
            "job": "tone",
            "run_id": "tone-20260101-000000-abcd",
            "rows": 100,
            "ok": 100,
            "failed": 0,
            "pending": 0,
            "cached": 0,
            "requests": 100,
            "attempts": 100,
            "input_tokens": 5000,
            "output_tokens": 700,
            "cost_usd": Decimal("0.000000123"),
            "wall_s": 2.5,
            "output": "tone",
        }
        return RunSummary(**{**values, **changes})

    return make


@pytest.fixture(autouse=True)
def _no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets that another test resolved must not hide words of this test's messages."""
    monkeypatch.setattr("batch_llm.config.secrets._known", set())
