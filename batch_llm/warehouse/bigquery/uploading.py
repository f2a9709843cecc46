"""Rows from outside as a table: files and frames that users bring.

Belongs here: making such a table, by one load job. Not here: what a run writes (publishing.py, promotion.py), the job
itself (loading.py).
"""

from __future__ import annotations

import pyarrow as pa

from batch_llm.errors import OutputError
from batch_llm.warehouse.base import Loaded
from batch_llm.warehouse.bigquery.jobs import JobFailed, Jobs
from batch_llm.warehouse.bigquery.loading import Load
from batch_llm.warehouse.bigquery.names import PREFIX
from batch_llm.warehouse.bigquery.outputs import check_column_names, require_dataset
from batch_llm.warehouse.bigquery.schema import Unstorable, field_of
from batch_llm.warehouse.bigquery.tables import kind_of_table
from batch_llm.warehouse.output_rules import check_loadable, refuse_taken

__all__ = ["load"]

_TAKEN = "duplicate"  # what BigQuery says of a table that has rows already, made by somebody meanwhile


def load(jobs: Jobs, table: str, rows: pa.RecordBatchReader, *, replace: bool) -> Loaded:
    """See `Warehouse.load`."""
    connection = jobs.connection
    check_loadable(table, rows.schema)
    check_column_names(f"table {table!r}", rows.schema.names, "before they are uploaded")
    name = connection.dataset.named(table, OutputError)
    if name.is_internal:
        raise OutputError(f"table {table!r}: names that begin with {PREFIX} belong to batch_llm's own tables")
    try:
        fields = tuple(field_of(field) for field in rows.schema)
    except Unstorable as error:
        raise OutputError(f"table {table!r}: {error}") from None
    standing = connection.table(name)
    if standing is None:
        require_dataset(connection, name, f"table {table!r}")
    else:
        columns = [field.name for field in standing.schema]
        refuse_taken(table, kind_of_table(standing), columns, replace=replace)
    wanted = Load("upload", None, name.path, fields, into_new=not replace, or_new=replace)
    try:
        loaded = wanted.run(jobs, iter(rows))
    except JobFailed as error:
        if error.failure.reason == _TAKEN:
            refuse_taken(table, "table", (), replace=False)
        raise
    return Loaded(loaded.rows, loaded.size_bytes, connection.dataset.ref(name))
