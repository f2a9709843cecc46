"""Names go there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.partitions import parse_partition_key, partition_key, table_key

ROOT = Path("/checkout")


@given(st.from_regex(r"[a-z][a-z0-9_]{0,20}-\d{8}-\d{6}-[0-9a-f]{4}", fullmatch=True), st.integers(0, 200_000))
def test_a_partition_names_its_run_and_slice(run_id: str, number: int) -> None:
    assert parse_partition_key(partition_key(run_id, number)) == (run_id, number)


@pytest.mark.parametrize("key", ["", "tone", "tone-1", "2026-11-21-x"])
def test_what_is_no_slice_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="partition of a slice"):
        parse_partition_key(key)


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("beige_tone", ["beige_tone"]),
        ("raw.reports", ["raw", "reports"]),
        ("raw.reports_*", ["raw", "reports_all"]),
        ("/checkout/jobs/tone/beige book.parquet", ["jobs", "tone", "beige_book_parquet"]),
        ("/checkout/raw/*.csv", ["raw", "all_csv"]),
        ("/mnt/lake/2026/beige.parquet", ["2026", "beige_parquet"]),
    ],
)
def test_a_table_has_one_key_for_everybody(reference: str, path: list[str]) -> None:
    assert table_key(reference, ROOT).path == path
