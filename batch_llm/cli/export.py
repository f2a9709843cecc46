"""``batch-llm export JOB --to FILE``: the answers as a file.

Belongs here: writing .parquet, .csv, .jsonl, .arrow from record batches, whole or not at all. Not here: the output
table itself (warehouse).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from batch_llm.cli.jobs import KnownRun, known_run
from batch_llm.cli.json_values import json_bytes
from batch_llm.cli.speech import print_json, say, tell
from batch_llm.cli.vectors import rows_with_vectors, vectors_as_text
from batch_llm.errors import ConfigurationError, OutputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["WRITERS", "export", "write_rows"]


def export(reference: str, to: Path, *, json: bool) -> None:
    """``batch-llm export``."""
    _writer(to)
    run = known_run(reference)
    rows = write_rows(_rows(run), to)
    if json:
        print_json({"job": run.job, "rows": rows, "file": str(to.resolve())})
    else:
        say(f"{run.job}: {rows:,} rows written to {to}")


def write_rows(batches: Iterator[pa.RecordBatch], to: Path) -> int:
    """Write the rows beside ``to`` and then move them there; the number of rows. Raises `ConfigurationError`."""
    import pyarrow as pa

    write = _writer(to)
    first = next(batches, None)
    if first is None:
        raise OutputError("there are no rows to export yet")
    temporary = to.with_name(f".{to.name}.part")
    try:
        rows = write(temporary, first.schema, chain([first], batches))
        temporary.replace(to)
    except OSError as error:
        raise ConfigurationError(f"cannot write {to}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise ConfigurationError(f"cannot write {to}: {error}; a .parquet or .jsonl file takes every type") from error
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _rows(run: KnownRun) -> Iterator[pa.RecordBatch]:
    """The output table's rows, or the run's own when it was not promoted yet."""
    try:
        batches = run.store.warehouse.rows(run.output)
        first = next(batches, None)
    except OutputError:
        tell(f"{run.output} does not exist yet: exporting what {run.record.run_id} has published so far")
        return run.store.warehouse.rows(f"run:{run.record.run_id}")
    return batches if first is None else chain([first], batches)


def _writer(to: Path) -> Callable[[Path, pa.Schema, Iterator[pa.RecordBatch]], int]:
    if to.suffix not in WRITERS:
        raise ConfigurationError(f"--to {to}: the name must end in one of {' '.join(WRITERS)}")
    return WRITERS[to.suffix]


def _parquet(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(path, schema) as writer:
        return _each(batches, writer.write_batch)


def _arrow(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    from pyarrow.ipc import new_file

    with new_file(str(path), schema) as writer:
        return _each(batches, writer.write_batch)


def _csv(path: Path, _schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    from pyarrow.csv import CSVWriter

    first = _flat(next(batches))
    with CSVWriter(path, first.schema) as writer:
        return _each(chain([first], map(_flat, batches)), writer.write_batch)


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with each column of vectors, lists or objects as JSON texts: a CSV has none of them."""
    import pyarrow as pa

    batch = vectors_as_text(batch)
    for place, field in enumerate(batch.schema):
        if pa.types.is_nested(field.type):
            values = batch.column(place).to_pylist()
            texts = [None if value is None else json_bytes(value).decode() for value in values]
            batch = batch.set_column(place, field.name, pa.array(texts, pa.string()))
    return batch


def _jsonl(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    with path.open("wb") as file:

        def write(batch: pa.RecordBatch) -> None:
            file.writelines(json_bytes(row) + b"\n" for row in rows_with_vectors(batch))

        return _each(batches, write)


def _each(batches: Iterator[pa.RecordBatch], write: Callable[[pa.RecordBatch], None]) -> int:
    rows = 0
    for batch in batches:
        write(batch)
        rows += batch.num_rows
    return rows


WRITERS: dict[str, Callable[[Path, pa.Schema, Iterator[pa.RecordBatch]], int]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".arrow": _arrow,
}
