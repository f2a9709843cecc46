"""Fixtures of the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A machine of this test's own."""
    return Lab(tmp_path)
