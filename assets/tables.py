"""What Dagster shows of a table: where it is, its columns, rows, bytes, and a link to its console.

Belongs here: Dagster's words for what a warehouse knows of a table. Not here: what costs money or time, runs.
Source: https://docs.dagster.io/guides/build/assets/metadata-and-tags/table-metadata (read 2026-11-28)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import dagster as dg
import pyarrow as pa

from assets.partitions import table_key
from assets.slice_report import Value
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.job.rules import is_file
from batch_llm.warehouse.base import TableInfo, Warehouse
from batch_llm.warehouse.bigquery.names import Dataset
from batch_llm.wiring import Store

__all__ = ["facts", "kind_of", "observation", "place", "source_key", "source_of"]

CONSOLE = "https://console.cloud.google.com/bigquery"


def source_of(declared: DeclaredJob) -> str:
    """What the job reads, as its file says: a table, a file, or the pattern it watches."""
    job = declared.job
    return job.watch.tables if job.watch is not None else str(job.input.table)


def source_key(declared: DeclaredJob, root: Path) -> dg.AssetKey:
    """The asset of what the job reads."""
    return table_key(declared.resolve(source_of(declared)), root)


def kind_of(reference: str, dataset: str | None) -> str:
    """The asset's kind. ``dataset``: ``PROJECT.DATASET`` when the warehouse is BigQuery."""
    if is_file(reference):
        return Path(reference).suffix.lstrip(".") or "file"
    return "duckdb" if dataset is None else "bigquery"


def place(reference: str, dataset: str | None) -> dict[str, Value]:
    """Where a table is, without looking; of a pattern in BigQuery its dataset."""
    if is_file(reference):
        return {"place": dg.MetadataValue.path(reference)}
    if dataset is None:
        return {"place": reference, "dagster/table_name": reference}
    try:
        name = Dataset.parse(dataset).named(reference, ConfigurationError)
    except ConfigurationError:  # whoever reads it says what is wrong
        return {"place": reference}
    shown: dict[str, Value] = {"place": reference, "project": name.project, "dataset": name.dataset}
    asked = {"project": name.project, "p": name.project, "d": name.dataset, "page": "dataset"}
    if "*" not in name.path:
        shown["dagster/table_name"] = name.path
        asked |= {"t": name.table, "page": "table"}
    return {**shown, "console": dg.MetadataValue.url(f"{CONSOLE}?{urlencode(asked)}")}


def facts(store: Store, reference: str) -> dict[str, Value]:
    """The columns, rows and bytes of a table as it is now, and where it is. Raises what the warehouse raises."""
    dataset = store.settings.bigquery_dataset
    shown = place(reference, dataset)
    if dataset is None and not is_file(reference):
        info = _looked_at(store.warehouse, reference)
    else:
        info = store.warehouse.source(reference)  # costs nothing there
    if info.schema is not None:
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(_columns(info.schema))
    if info.rows is not None:
        shown["dagster/row_count"] = info.rows
    if info.size_bytes is not None:
        shown["size_bytes"] = info.size_bytes
    if info.modified_at is not None:
        shown["modified_at"] = dg.MetadataValue.timestamp(info.modified_at)
    return shown


def observation(store: Store, key: dg.AssetKey, reference: str) -> Iterator[dg.AssetObservation]:
    """An input as it is now, where a look costs nothing: in BigQuery. A version of a DuckDB table reads it through."""
    if store.settings.bigquery_dataset is not None and not is_file(reference):
        yield dg.AssetObservation(key, metadata=facts(store, reference))


def _looked_at(warehouse: Warehouse, reference: str) -> TableInfo:
    schema = warehouse.head(reference, (), None, 1).schema
    return TableInfo(reference, "", warehouse.count(reference, None), None, None, schema)


def _columns(schema: pa.Schema) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(field.name, str(field.type)) for field in schema])
