"""What is listed together, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.config.settings import Settings
from sensors.listings import listed_pattern


@pytest.mark.parametrize(
    ("pattern", "wide"),
    [
        ("reports_*", "*"),
        ("raw.reports_*", "raw.*"),
        ("other-project.raw.reports_?", "other-project.raw.*"),
        ("raw_*.reports", "raw_*.*"),
        ("/data/reports_*.parquet", None),
    ],
)
def test_of_bigquery_the_whole_dataset_is_listed(tmp_path: Path, pattern: str, wide: str | None) -> None:
    assert listed_pattern(Settings(home=tmp_path, warehouse="bigquery:p.d"), pattern) == wide


@pytest.mark.parametrize("pattern", ["raw.reports_*", "reports_*.csv"])
def test_elsewhere_only_what_is_asked_for(tmp_path: Path, pattern: str) -> None:
    assert listed_pattern(Settings(home=tmp_path), pattern) is None
