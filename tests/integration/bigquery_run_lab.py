"""A lab whose warehouse is BigQuery: the tests' server, a project and a table there.

Belongs here: setting the scene, in this process and in one that will be killed. Not here: assertions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from batch_llm.job.load import DeclaredJob
from batch_llm.warehouse.bigquery import open_client
from tests.integration.lab import Lab

__all__ = ["PROJECT", "BigQueryRunLab"]

PROJECT = "fake-project"
SLICE_ROWS = 60


class BigQueryRunLab(Lab):
    """Needs ``BIGQUERY_EMULATOR_HOST``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = replace(self.settings, warehouse=f"bigquery:{PROJECT}.tables", bigquery_location="US")

    def dataset(self, rows: int) -> None:
        """A dataset with the table ``texts``: id, text, extra."""
        made = (
            "CREATE OR REPLACE TABLE tables.texts AS "
            f"SELECT id, CONCAT('text ', CAST(id AS STRING)) AS text, MOD(id, 7) AS extra "
            f"FROM UNNEST(GENERATE_ARRAY(0, {rows - 1})) AS id"
        )
        with open_client(PROJECT) as client:
            client.create_dataset(f"{PROJECT}.tables", exists_ok=True)
            client.query_and_wait(made)

    def job(self, **changes: Any) -> DeclaredJob:
        """The lab's job over that table."""
        own = {"input": {"table": "texts", "key": ["id"]}, "slices": {"rows": SLICE_ROWS}}
        return super().job(**{**own, **changes})
