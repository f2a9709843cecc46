"""Parquet written with flat memory, and rows set aside."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.warehouse import parquet_file
from batch_llm.warehouse.parquet_file import ParquetOutput
from batch_llm.warehouse.spool import spooled

SCHEMA = pa.schema([("text", pa.string())])


def batch(*texts: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": list(texts)}, SCHEMA)


def test_row_groups_are_bounded_by_bytes(tmp_path: Path) -> None:
    """Long rows make small groups, so that a reader holds little at a time."""
    long = "x" * (parquet_file.ROW_GROUP_BYTES // 4)
    with ParquetOutput(tmp_path / "a.parquet", SCHEMA) as file:
        file.write(batch(*[long] * 10))
        file.write(batch("x" * (2 * parquet_file.ROW_GROUP_BYTES), "y"))
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sum(sizes) == file.rows == 12
    assert max(sizes) <= 8  # a group is full when it has reached its bytes, so at most twice as large


def test_short_rows_share_a_row_group(tmp_path: Path) -> None:
    with ParquetOutput(tmp_path / "a.parquet", SCHEMA) as file:
        for number in range(50):
            file.write(batch(str(number)))
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
    assert pq.read_table(tmp_path / "a.parquet").column("text").to_pylist() == [str(number) for number in range(50)]


def test_no_rows_make_a_file_with_columns(tmp_path: Path) -> None:
    with ParquetOutput(tmp_path / "a.parquet", SCHEMA):
        pass
    assert pq.read_table(tmp_path / "a.parquet").schema.names == ["text"]


def test_spooled_rows_have_no_file_name(tmp_path: Path) -> None:
    """Nothing is left behind, whether they are read to the end or dropped."""
    reader = pa.RecordBatchReader.from_batches(SCHEMA, iter([batch("a"), batch("b", "c")]))
    rows = spooled(reader, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert [each.to_pydict() for each in rows] == [{"text": ["a"]}, {"text": ["b", "c"]}]
    spooled(pa.RecordBatchReader.from_batches(SCHEMA, iter([batch("a")])), tmp_path)
    assert list(tmp_path.iterdir()) == []
