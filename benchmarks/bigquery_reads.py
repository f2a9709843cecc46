"""How fast rows of one slice come out of BigQuery by either way, and what memory that takes: against the tests' fake.

    python -m benchmarks.bigquery_reads [ROWS ..]

Belongs here: the figures of docs/how-to/bigquery.md. Not here: the real service, of which they say nothing.
Each reading is a process of its own, which reads a slice of 100 rows first. The server is on the same machine and makes
the rows meanwhile.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from google.cloud import bigquery

from batch_llm.warehouse.bigquery import Options, open_client, open_reader
from batch_llm.warehouse.bigquery.connection import Connection
from batch_llm.warehouse.bigquery.listing import Listing
from batch_llm.warehouse.bigquery.names import Dataset, TableName
from tests.bigquery_server.process import BigQueryServer, bigquery_server

ROWS = (20_000, 100_000)
PROJECT = BigQueryServer.project
TABLE = TableName(PROJECT, "d", "slices")
MAKE = """
CREATE TABLE d.slices PARTITION BY RANGE_BUCKET(_slice, GENERATE_ARRAY(0, 10, 1)) AS
SELECT {slice} AS _slice, row AS _row, CONCAT('k', CAST(row AS STRING)) AS c0, REPEAT('twelve bytes', 12) AS c1,
  CAST(row AS FLOAT64) / 7 AS c2
FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS row
"""


def main() -> None:
    """Print a line for each reading."""
    if sys.argv[1:2] == ["--read"]:
        _read(sys.argv[2], int(sys.argv[3]))
        return
    sizes = tuple(int(each) for each in sys.argv[1:]) or ROWS
    with tempfile.TemporaryDirectory() as folder, bigquery_server(Path(folder)) as server:
        with server.client() as client:
            client.create_dataset("d")
            _make(client, (100, *sizes))
        addresses = {"BIGQUERY_EMULATOR_HOST": server.url, "BIGQUERY_STORAGE_GRPC_ENDPOINT": server.grpc_address}
        for number in range(1, len(sizes) + 1):
            for way in ("rest", "storage"):
                command = [sys.executable, "-m", "benchmarks.bigquery_reads", "--read", way, str(number)]
                subprocess.run(command, env={**os.environ, **addresses}, check=True)


def _make(client: bigquery.Client, sizes: tuple[int, ...]) -> None:
    client.query(MAKE.format(slice=0, rows=sizes[0])).result()
    insert = MAKE[MAKE.index("SELECT") :]
    for number, rows in enumerate(sizes[1:], start=1):
        client.query("INSERT INTO d.slices " + insert.format(slice=number, rows=rows)).result()


def _read(way: str, number: int) -> None:
    options = Options(make_reader=open_reader if way == "storage" else None)
    connection = Connection(Dataset(PROJECT, "d"), partial(open_client, PROJECT), options)
    table = connection.table(TABLE)
    assert table is not None
    list(Listing(table, slice_number=0).batches(connection))
    before_kb, began = _peak_kb(), time.perf_counter()
    rows = sum(batch.num_rows for batch in Listing(table, slice_number=number).batches(connection))
    taken_s = time.perf_counter() - began
    print(f"{way:8} {rows:7,} rows {taken_s:6.2f} s {rows / taken_s:9,.0f} rows/s, {_grown_mb(before_kb):.0f} MB more")


def _grown_mb(before_kb: int) -> float:
    return (_peak_kb() - before_kb) / 1024


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
