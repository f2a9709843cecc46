"""The warehouse of several machines: one dataset of BigQuery, and slices as Parquet files where they are worked on.

Belongs here: the public names. Not here: code. Importing this package imports Google's client, which takes a second.
"""

from batch_llm.warehouse.bigquery.client import client_for, emulator_of, open_client, open_reader, reader_for
from batch_llm.warehouse.bigquery.connection import Options, Statement
from batch_llm.warehouse.bigquery.warehouse import BigQueryWarehouse

__all__ = [
    "BigQueryWarehouse",
    "Options",
    "Statement",
    "client_for",
    "emulator_of",
    "open_client",
    "open_reader",
    "reader_for",
]
