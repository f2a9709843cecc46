"""Writing Parquet with flat memory, on the disk before anybody relies on it.

Belongs here: one file, written batch by batch. Not here: which rows, and where the file ends up.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.folders import sync_to_disk

__all__ = ["ParquetOutput"]

ROW_GROUP_BYTES = 4 << 20  # what a reader holds at a time
ROW_GROUP_ROWS = 16_384


class ParquetOutput:
    """One Parquet file that grows batch by batch. A context manager; ``rows`` counts what was written."""

    def __init__(self, path: Path, schema: pa.Schema, *, durable: bool = True, private: bool = True) -> None:
        """``path`` is overwritten.

        ``durable``: on the disk at the end, for what must survive the machine's crash. ``private``: a new file is for
        its owner alone; else as the user's umask has it.
        """
        self.rows = 0
        self._path = path
        self._schema = schema
        self._durable = durable
        self._mode = 0o600 if private else 0o666
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def __enter__(self) -> ParquetOutput:
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT, self._mode))
        self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._write_group()
        self._writer.close()
        if kind is None and self._durable:
            sync_to_disk(self._path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; they reach the file when a row group is full."""
        self.rows += batch.num_rows
        row_bytes = batch.nbytes / max(1, batch.num_rows)
        step = max(1, min(ROW_GROUP_ROWS, int(ROW_GROUP_BYTES / max(1.0, row_bytes))))
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            part_bytes = int(part.num_rows * row_bytes)
            if self._waiting_bytes + part_bytes > ROW_GROUP_BYTES or self._waiting_rows >= ROW_GROUP_ROWS:
                self._write_group()
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            self._waiting_bytes += part_bytes

    def _write_group(self) -> None:
        if self._waiting:
            group = pa.Table.from_batches(self._waiting, self._schema)
            self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
