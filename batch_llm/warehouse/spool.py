"""Rows set aside in a file, so that the warehouse is closed while a slow reader takes its time.

Belongs here: one anonymous file of Arrow batches. Not here: where the rows come from.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from batch_llm.folders import private_folder

__all__ = ["no_rows", "spooled"]


def spooled(reader: pa.RecordBatchReader, folder: Path) -> Iterator[pa.RecordBatch]:
    """Read everything now into a file without a name; the batches come from there, one at a time, at least one.

    The file is gone when the iterator is, also when the process is killed in between.
    """
    private_folder(folder)
    descriptor, name = tempfile.mkstemp(dir=folder, suffix=".spool")
    os.close(descriptor)
    try:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(name, "wb") as sink, pa.ipc.new_stream(sink, reader.schema, options=options) as writer:
            for batch in reader:
                writer.write_batch(batch)
        source = pa.OSFile(name, "rb")
    finally:
        os.unlink(name)
    return _drain(source)


def _drain(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    with source, pa.ipc.open_stream(source) as reader:
        empty = True
        for batch in reader:
            empty = False
            yield batch
        if empty:  # no rows have columns as well
            yield no_rows(reader.schema)


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Columns without a row. Arrow's own ways to make them load pandas (43 MB and half a second, once)."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
