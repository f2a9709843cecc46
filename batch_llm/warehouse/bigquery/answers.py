"""The rows of a statement.

Belongs here: running it for its rows. Not here: how it runs (jobs.py), rows of tables (listing.py).
"""

from __future__ import annotations

import pyarrow as pa

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery.jobs import Jobs, Query
from batch_llm.warehouse.bigquery.listing import Listing
from batch_llm.warehouse.bigquery.names import TableName

__all__ = ["answer", "answer_listing"]


def answer(jobs: Jobs, query: Query) -> pa.Table:
    """All rows of a statement that has few."""
    listing = answer_listing(jobs, query)
    return pa.Table.from_batches(listing.batches(jobs.connection), listing.arrow_schema)


def answer_listing(jobs: Jobs, query: Query) -> Listing:
    """Run a statement; its rows lie in a table without a name, which BigQuery keeps for a day."""
    job = jobs.run(query)
    place = job.destination
    table = jobs.connection.table(TableName(place.project, place.dataset_id, place.table_id))
    if table is None:
        raise WarehouseError(f"BigQuery, {query.name}: the rows of job {job.job_id} are gone; run again")
    return Listing(table)
