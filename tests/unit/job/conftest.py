"""Secrets that another test resolved must not hide words of these tests' messages."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_llm.config.secrets._known", set())
