"""Rows of a megabyte: batches are bounded by bytes, whatever their number of rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm.warehouse.base import FreezeSpec
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from batch_llm.warehouse.duckdb.long_rows import in_small_groups

ROWS = 300
TEXT = "long " * 60_000  # 300 kB
MOST_BYTES = 6 << 20  # a row group of 4 MB, and what is beside the text


@pytest.fixture
def one_group(tmp_path: Path) -> Path:
    """Long rows in one row group, as pandas writes them."""
    path = tmp_path / "long.parquet"
    table = pa.table({"id": list(range(ROWS)), "text": [f"{i} {TEXT}" for i in range(ROWS)]})
    pq.write_table(table, path, use_dictionary=False)
    return path


def test_a_slice_of_long_rows_is_read_a_few_megabytes_at_a_time(tmp_path: Path, one_group: Path) -> None:
    """All rows, in order; no batch above a few megabytes."""
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb", tmp_path / "runs")
    frozen = warehouse.freeze(FreezeSpec("run-1", str(one_group), ("id",), ("id", "text"), None, 1000))
    batches = list(warehouse.read(frozen, 0))
    assert [row for batch in batches for row in batch.column("id").to_pylist()] == list(range(ROWS))
    assert max(batch.nbytes for batch in batches) < MOST_BYTES


def test_a_head_of_long_rows_is_short(tmp_path: Path, one_group: Path) -> None:
    """Estimates need no hundreds of megabytes."""
    warehouse = DuckDBWarehouse(tmp_path / "w.duckdb", tmp_path / "runs")
    head = warehouse.head(str(one_group), ["id", "text"], None, 200)
    assert 0 < head.num_rows < 30
    assert head.nbytes < 2 * MOST_BYTES


def test_long_rows_that_fit_no_vector_are_copied_into_small_groups(tmp_path: Path, one_group: Path) -> None:
    """The copy holds the same rows in groups of a few megabytes."""
    copy = in_small_groups(one_group, tmp_path)
    assert copy != one_group and pq.read_table(copy).equals(pq.read_table(one_group))
    metadata = pq.read_metadata(copy)
    assert max(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)) < MOST_BYTES


def test_ordinary_rows_are_read_where_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "short.parquet"
    pq.write_table(pa.table({"id": list(range(10_000)), "text": ["short"] * 10_000}), path)
    assert in_small_groups(path, tmp_path) == path
    assert [entry.name for entry in tmp_path.iterdir()] == ["short.parquet"]
