"""Tables from a program's memory as files that a run can name: ``<home>/uploads/<hash of the content>.parquet``.

Belongs here: writing them in bounded batches, telling the same content again, sweeping. Not here: which kinds of frame
there are (python/frames.py), freezing. The same content is the same file with the same time of change, so it is the
same version of an input: a second call resumes the run, or finds that there is nothing to do.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from batch_llm.errors import WarehouseError
from batch_llm.folders import private_folder, sync_to_disk
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["drop_uploads", "sweep_uploads", "upload"]

WINDOW_ROWS = 64  # of 1 MB each they are 64 MB; the cut of the stream does not depend on how it came
READ_BYTES = 1 << 20
LEFTOVER_S = 86_400.0  # younger files may belong to a call that has not saved its run yet
CHANGED_AT_S = 0  # every upload's time of change: a version of an input is made of name, size and time
SUFFIX = ".parquet"
PARTIAL = ".partial-"


def upload(reader: pa.RecordBatchReader, folder: Path) -> Path:
    """Write all rows of a stream; the file's path. Raises `WarehouseError` when the disk does not take it.

    Appears by one rename, whole and on the disk; a file that is there already stays.
    """
    partial = folder / f"{PARTIAL}{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
    try:
        private_folder(folder)
        with ParquetOutput(partial, reader.schema) as file:
            for batch in _windows(reader):
                file.write(batch)
        path = folder / f"{_content_hash(partial)}{SUFFIX}"
        os.utime(partial, (CHANGED_AT_S, CHANGED_AT_S))
        os.replace(partial, path)
        sync_to_disk(folder)
    except OSError as error:
        raise WarehouseError(f"the table cannot be written to {folder}: {error}; nothing was asked") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def sweep_uploads(folder: Path, named: Collection[str]) -> None:
    """Delete the uploads of more than a day ago that no run record names (``named``: their sources)."""
    for path in _files(folder):
        try:
            if str(path) not in named and time.time() - path.stat().st_ctime > LEFTOVER_S:
                path.unlink()
        except FileNotFoundError:  # another process sweeps, too
            continue


def drop_uploads(folder: Path, sources: Collection[str], named: Collection[str]) -> None:
    """Delete those of the ``sources`` that are uploads and that no other run names, whatever their age."""
    for path in _files(folder):
        if str(path) in sources and str(path) not in named:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == SUFFIX] if folder.is_dir() else []


def _windows(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The rows in batches of `WINDOW_ROWS`, so that the file does not depend on how the stream was cut."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in reader:
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, WINDOW_ROWS - rows)
            waiting.append(part)
            rows, start = rows + part.num_rows, start + part.num_rows
            if rows == WINDOW_ROWS:
                yield pa.concat_batches(waiting)
                waiting, rows = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def _content_hash(path: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            found.update(chunk)
    return found.hexdigest()
