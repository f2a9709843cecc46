"""What the files test_bigquery_server_*.py work with: the real client, tables, files.

Belongs here: making things, asking for rows. Not here: promises.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from tests.bigquery_server.process import BigQueryServer

DATASET = "d"
BY_SLICE = bigquery.RangePartitioning(
    field="slice", range_=bigquery.PartitionRange(start=0, end=10, interval=1)
)  # fmt: skip


class BigQueryLab:
    """A server without data but an empty dataset, and the real client on it."""

    def __init__(self, server: BigQueryServer, client: bigquery.Client) -> None:
        self.server = server
        self.client = client

    def ref(self, name: str) -> str:
        """A table of the dataset."""
        return f"{self.server.project}.{DATASET}.{name}"

    def create(self, name: str, *columns: str, **properties: Any) -> bigquery.Table:
        """Create a table; a column is "name TYPE" or "name TYPE MODE"."""
        table = bigquery.Table(self.ref(name), [bigquery.SchemaField(*each.split()) for each in columns])
        for key, value in properties.items():
            setattr(table, key, value)
        return self.client.create_table(table)

    def load(self, name: str, data: pa.Table | Sequence[dict[str, Any]], **config: Any) -> bigquery.LoadJob:
        """Load Parquet (an Arrow table) or JSON rows, and wait; the schema is the file's unless given."""
        job_id, resumable = config.pop("job_id", None), config.pop("resumable", False)
        if isinstance(data, pa.Table):
            file = io.BytesIO()
            pq.write_table(data, file)
            config = {"source_format": "PARQUET"} | config
        else:
            file = io.BytesIO(b"".join(bigquery_json(each) + b"\n" for each in data))
            config = {"source_format": "NEWLINE_DELIMITED_JSON"} | config
        job = self.client.load_table_from_file(
            file, self.ref(name), rewind=True, job_id=job_id, size=None if resumable else file.getbuffer().nbytes,
            job_config=bigquery.LoadJobConfig(**config),
        )  # fmt: skip
        return job.result()

    def query(self, sql: str, **config: Any) -> bigquery.QueryJob:
        """Run a statement, and wait."""
        job_id = config.pop("job_id", None)
        retry = {"job_id": job_id, "job_retry": None} if job_id else {}
        job = self.client.query(sql, job_config=bigquery.QueryJobConfig(**config), **retry)
        job.result()
        return job

    def ask(self, sql: str, **config: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        return [tuple(row) for row in self.query(sql, **config).result()]

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """The rows of a table or of one partition, in order, by tabledata.list."""
        table = self.client.get_table(self.ref(name.partition("$")[0]))
        asked = bigquery.Table(self.ref(name), table.schema)
        return sorted((tuple(row) for row in self.client.list_rows(asked)), key=repr)

    def operations(self) -> list[str]:
        """The calls so far."""
        return [each["operation"] for each in self.server.log()]


def bigquery_json(row: dict[str, Any]) -> bytes:
    """One line of newline-delimited JSON."""
    return json.dumps(row).encode()


@contextmanager
def refused(kind: type[GoogleAPICallError], reason: str, words: str = "") -> Iterator[None]:
    """The block must raise this error, of this reason, saying these words."""
    with pytest.raises(kind) as caught:
        yield
    assert reason in [each["reason"] for each in caught.value.errors], caught.value
    assert words in str(caught.value)
