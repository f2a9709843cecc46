"""The rows of a statement.

Belongs here: running it for its rows. Not here: how it runs (jobs.py), rows of tables (listing.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from google.cloud.bigquery.table import RowIterator

from batch_llm.warehouse.bigquery.connection import ANSWER_S, Connection
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.schema import arrow_schema, shaped

__all__ = ["Answer", "answer", "asked"]

_PAGE_ROWS = 1000  # BigQuery itself ends a page at 10 MB


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a statement that has run; they can be read once."""

    rows: RowIterator
    schema: pa.Schema

    def batches(self, connection: Connection) -> Iterator[pa.RecordBatch]:
        """The rows, a page at a time; none for no rows. Raises `WarehouseError`."""
        with connection.told("reading the rows of a BigQuery statement"):
            for batch in self.rows.to_arrow_iterable():
                if batch.num_rows:
                    yield shaped(batch, self.schema)


def asked(jobs: Jobs, query: Query, schema: pa.Schema | None = None) -> Answer:
    """Run a statement; ``schema``: in which types its rows are wanted."""
    job, connection = jobs.run(query), jobs.connection
    with connection.told(f"BigQuery, {query.name}"):
        rows = job.result(page_size=_PAGE_ROWS, retry=connection.retry, timeout=ANSWER_S)
    return Answer(rows, schema or arrow_schema(rows.schema))


def answer(jobs: Jobs, query: Query) -> pa.Table:
    """All rows of a statement that has few."""
    found = asked(jobs, query)
    return pa.Table.from_batches(found.batches(jobs.connection), found.schema)
