"""The warehouse of one machine: one DuckDB file, and slices as Parquet files beside it.

Belongs here: the one public name. Not here: code. Importing this package imports duckdb; nothing else does.
"""

from batch_llm.warehouse.duckdb.warehouse import DuckDBWarehouse

__all__ = ["DuckDBWarehouse"]
