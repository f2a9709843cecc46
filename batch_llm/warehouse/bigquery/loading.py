"""Rows into a table: a Parquet file, written batch by batch, and one load job, which is free and all or nothing.

Belongs here: the file and the job's configuration. Not here: which rows (publishing.py, freezing.py), ids (jobs.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from google.cloud import bigquery

from batch_llm.errors import WarehouseError
from batch_llm.folders import private_folder
from batch_llm.warehouse.base import Loaded
from batch_llm.warehouse.bigquery.jobs import Jobs
from batch_llm.warehouse.bigquery.run_tables import one_per_slice
from batch_llm.warehouse.bigquery.schema import storable
from batch_llm.warehouse.parquet_file import ParquetOutput

__all__ = ["Load", "file_type"]


def file_type(field: bigquery.SchemaField) -> pa.DataType:
    """The type of a column in the file, as `schema.storable` makes it."""
    return storable(_empty(field), [field]).schema.field(0).type


def _empty(field: bigquery.SchemaField) -> pa.RecordBatch:
    if field.mode == "REPEATED":
        inner = file_type(bigquery.SchemaField(field.name, field.field_type, fields=field.fields))
        kind: pa.DataType = pa.list_(inner)
    elif field.fields:
        kind = pa.struct([pa.field(part.name, file_type(part)) for part in field.fields])
    else:
        kind = pa.null()
    return pa.RecordBatch.from_arrays([pa.array([], kind)], names=[field.name])


@dataclass(frozen=True, slots=True)
class Load:
    """Rows that take the place of a table's, or of one slice's; with ``into_new`` those of a table to be made."""

    name: str  # the operation
    chain: str | None  # of job ids, see jobs.py
    target: str  # a table, or table$slice
    fields: tuple[bigquery.SchemaField, ...]
    into_new: bool = False  # make the table; one with rows is an error: `duplicate`
    sliced_by: str | None = None  # the column with the slice's number, when all slices of a table are replaced
    or_new: bool = False  # make the table when there is none; else its columns are replaced as well

    def run(self, jobs: Jobs, batches: Iterator[pa.RecordBatch]) -> Loaded:
        """Collect the rows in a file, then load them. Raises `JobFailed`."""
        private_folder(jobs.temporary)
        schema = pa.schema([pa.field(field.name, file_type(field)) for field in self.fields])
        with tempfile.NamedTemporaryFile(dir=jobs.temporary, suffix=".load.parquet") as collected:
            try:
                with ParquetOutput(Path(collected.name), schema, durable=False) as file:
                    for batch in batches:
                        file.write(storable(batch, self.fields))
            except pa.ArrowException as error:
                raise WarehouseError(f"{self.target}: a value does not fit into BigQuery's type: {error}") from error
            with Path(collected.name).open("rb") as stream:
                jobs.load(self.name, self.chain, stream, self.target, self._config())
            return Loaded(file.rows, Path(collected.name).stat().st_size, self.target)

    def _config(self) -> bigquery.LoadJobConfig:
        write, create = bigquery.WriteDisposition, bigquery.CreateDisposition
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            schema=list(self.fields),
            write_disposition=write.WRITE_EMPTY if self.into_new else write.WRITE_TRUNCATE,
            create_disposition=create.CREATE_IF_NEEDED if self.into_new or self.or_new else create.CREATE_NEVER,
        )
        if self.sliced_by is not None:  # a load that replaces a whole table may replace its partitioning as well
            config.range_partitioning = one_per_slice(self.sliced_by)
        options = bigquery.ParquetOptions()  # type: ignore[no-untyped-call]  # the client has no types here
        # without it lists are loaded as empty ones, and nothing says so
        # Source: https://github.com/googleapis/python-bigquery/issues/2370 (read 2026-11-28)
        options.enable_list_inference = True
        config.parquet_options = options
        return config
