"""Vectors through Parquet: columns whose lists all have one length.

Belongs here: reading such a column of a file of ours as DuckDB's array (``FLOAT[1536]``). Not here: any other column.
Parquet knows lists of any length only. Arrow notes the length beside the file's schema, and DuckDB does not look there.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch_llm.warehouse.duckdb.names import parquet_scan, quoted

__all__ = ["own_file"]

_ELEMENTS = {pa.float32(): "FLOAT", pa.float64(): "DOUBLE"}


def own_file(path: Path | str) -> str:
    """A Parquet file that `ParquetOutput` wrote as something that may stand after FROM, vectors as arrays.

    Raises what `pyarrow.parquet` raises for a file that is no Parquet file.
    """
    arrays = _arrays(pq.read_schema(path))
    scan = parquet_scan(path)
    if not arrays:
        return scan
    casts = ", ".join(f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in arrays.items())
    return f"(SELECT * REPLACE ({casts}) FROM {scan})"


def _arrays(schema: pa.Schema) -> dict[str, str]:
    return {
        field.name: f"{_ELEMENTS[field.type.value_type]}[{field.type.list_size}]"
        for field in schema
        if pa.types.is_fixed_size_list(field.type) and field.type.value_type in _ELEMENTS
    }
