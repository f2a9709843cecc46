"""What the tests of the BigQuery warehouse alone work with.

Belongs here: short pauses, a second machine, large texts. Not here: any promise (test_warehouse_bigquery_*.py).
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

from batch_llm.warehouse.base import FrozenInput, Warehouse
from batch_llm.warehouse.bigquery import BigQueryWarehouse, open_client
from batch_llm.warehouse.bigquery.patience import Patience
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from tests.contract.warehouse_lab import (
    BigQueryLab,
)


def hasty(limit_s: float = 10.0) -> Patience:
    """Pauses of a hundredth of their length, for servers that fail on purpose."""
    return Patience(limit_s, sleep=lambda delay_s: time.sleep(delay_s / 100))


def on_another_machine(lab: BigQueryLab) -> Warehouse:
    """The same dataset, an empty disk."""
    home = lab.home.parent / "another machine"
    files = DuckDBWarehouse(home / "files.duckdb", home / "runs")
    client = partial(open_client, lab.project)
    return BigQueryWarehouse(client, f"{lab.project}.tables", home / "runs", files, lab.options)


def read_all(warehouse: Warehouse, frozen: FrozenInput) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for info in frozen.slices:
        found = [row for batch in warehouse.read(frozen, info.number, batch_rows=3) for row in batch.to_pylist()]
        assert len(found) == info.rows
        rows += found
    return rows


def incompressible(mebibytes: int) -> str:
    """Text that makes a file of so many MiB."""
    return random.Random(1).randbytes(mebibytes << 20).hex()
