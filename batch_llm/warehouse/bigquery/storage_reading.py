"""Rows out of a table by the Storage Read API: one session, its streams one after the other.

Belongs here: sessions, resuming a stream that was cut. Not here: whether this way is taken (listing.py), opening the
client (client.py). In memory is a message at a time, which the service makes some MB large. A session's rows are those
of the moment when it was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batch_llm.warehouse.bigquery.connection import ANSWER_S, Connection
from batch_llm.warehouse.bigquery.failures import FAILURES, Failure
from batch_llm.warehouse.bigquery.names import TableName

__all__ = ["Stored", "stored_rows"]

_ARROW = 2  # DataFormat.ARROW; its enum is in the package, which may be missing
_STREAMS = 1  # slices are read side by side already, and one stream needs the least memory


@dataclass(frozen=True, slots=True)
class Stored:
    """Which rows of a table are wanted."""

    table: TableName
    columns: tuple[str, ...]
    where: str = ""  # one condition; no text: all rows


def stored_rows(connection: Connection, reader: Any, wanted: Stored) -> Iterator[pa.RecordBatch]:
    """The rows, with their columns as asked for. Raises what the client raises, before the first row or later."""
    table = wanted.table
    session = reader.create_read_session(
        request={
            "parent": f"projects/{connection.client.project}",  # who pays
            "read_session": {
                "table": f"projects/{table.project}/datasets/{table.dataset}/tables/{table.table}",
                "data_format": _ARROW,
                "read_options": {"selected_fields": list(wanted.columns), "row_restriction": wanted.where},
            },
            "max_stream_count": _STREAMS,
        },
        retry=connection.retry,
        timeout=ANSWER_S,
    )
    schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema)) if session.streams else None
    for stream in session.streams:  # none: the table is empty
        for batch in _messages(connection, reader, stream.name, schema):
            yield batch.select(list(wanted.columns))  # they come in the table's order


def _messages(connection: Connection, reader: Any, stream: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """A stream's rows, each once: cut off, it goes on behind the last row that came.

    A connection that died without a word is given up after a while, too; so is one whose reader is slow.
    """
    rows, wait = 0, connection.patience.begin()
    while True:
        try:
            # without `retry`: the client would begin again at the same offset, and knows nothing of what came
            messages = reader.read_rows(read_stream=stream, offset=rows, retry=None, timeout=ANSWER_S)
            try:
                for message in messages:
                    batch = pa.ipc.read_record_batch(
                        pa.py_buffer(message.arrow_record_batch.serialized_record_batch), schema
                    )
                    rows += batch.num_rows
                    yield batch
                    wait = connection.patience.begin()
            finally:
                messages.cancel()
        except FAILURES as error:
            if not Failure.of(error).passing or not wait.pause():
                raise
        else:
            return
