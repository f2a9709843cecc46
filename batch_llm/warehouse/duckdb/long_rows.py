"""Parquet files with long rows, cut so that DuckDB can read them with flat memory.

Belongs here: which files need it, and the copy. Not here: opening inputs (files.py), writing (parquet_file.py).
DuckDB takes rows out of a row group 2,048 at a time, whatever their length: 600 rows of 1 MB in one row group, as
pandas writes them, did not fit into 512 MB (measured, 2.0.0); the same rows in groups of 4 MB do.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow.parquet as pq

from batch_llm.warehouse.parquet_file import ROW_GROUP_BYTES, ParquetOutput

__all__ = ["in_small_groups"]

_VECTOR_ROWS = 2048  # DuckDB's own; Source: https://duckdb.org/docs/stable/internals/vector (read 2026-11-28)
_VECTOR_BYTES = 64 << 20  # what may stand in memory of one input at a time
_READ_BYTES = 1 << 20  # of the file at a time, instead of a whole column of a row group


def in_small_groups(path: Path, temporary: Path) -> Path:
    """The file itself, or a copy of it in ``temporary`` when its rows are too long to be read as they lie there."""
    metadata = pq.read_metadata(path)
    longest = 0.0  # bytes per row
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        row_bytes = group.total_byte_size / max(1, group.num_rows)
        if row_bytes * min(group.num_rows, _VECTOR_ROWS) > _VECTOR_BYTES:
            longest = max(longest, row_bytes)
    if not longest:
        return path
    copy = temporary / f"{uuid.uuid4().hex}.parquet"
    with (
        pq.ParquetFile(path, buffer_size=_READ_BYTES) as file,
        ParquetOutput(copy, file.schema_arrow, durable=False) as output,
    ):
        for batch in file.iter_batches(max(1, int(ROW_GROUP_BYTES / longest))):
            output.write(batch)
    return copy
