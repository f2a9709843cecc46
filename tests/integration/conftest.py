"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.lab import Lab

if TYPE_CHECKING:  # Dagster takes seconds to import: only its own tests pay for it
    import dagster as dg

    from tests.integration.dagster_lab import Account, CodeLocation


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A machine of this test's own."""
    return Lab(tmp_path)


@pytest.fixture
def account() -> Iterator[Account]:
    """A simulated provider account outside of the code location."""
    from tests.integration.dagster_lab import Account

    with Account() as opened:
        yield opened


@pytest.fixture
def location(tmp_path: Path, account: Account) -> CodeLocation:
    """A Dagster code location of this test's own, with one input table."""
    from tests.integration.dagster_lab import CodeLocation

    made = CodeLocation(tmp_path, account.base_url)
    made.table("input.parquet", 25)
    return made


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, gone afterwards."""
    import dagster as dg

    with dg.DagsterInstance.local_temp() as opened:
        yield opened
