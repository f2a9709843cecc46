"""The Dagster packages belong together, and we say so when they do not."""

from __future__ import annotations

import pytest

from batch_llm.errors import ConfigurationError
from resources import versions


def test_the_locked_set_belongs_together() -> None:
    """What uv.lock installs."""
    versions.check_versions()


def test_a_mixed_set_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an unbounded resolve would install it."""
    monkeypatch.setattr(versions, "gcp_version", "0.29.26")
    with pytest.raises(ConfigurationError, match=r"dagster-gcp 0\.29\.26 does not go with dagster"):
        versions.check_versions()
