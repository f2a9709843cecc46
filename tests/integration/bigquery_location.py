"""A Dagster code location whose warehouse is a dataset of the tests' BigQuery.

Belongs here: what the tests of Dagster over BigQuery share. Not here: assertions.
"""

from __future__ import annotations

import base64

from google.cloud import bigquery

from resources.bigquery import BigQueryConnection
from resources.settings import SettingsResource
from tests.bigquery_server.process import PROJECT, BigQueryServer
from tests.integration.dagster_lab import CodeLocation

__all__ = ["DATASET", "BigQueryLocation"]

DATASET = "texts"


class BigQueryLocation(CodeLocation):
    """A code location whose warehouse is a dataset, reached by what is configured in Dagster alone."""

    server: BigQueryServer
    client: bigquery.Client

    @property
    def settings_resource(self) -> SettingsResource:
        key = base64.b64encode(self.server.service_account.read_bytes()).decode()
        connection = BigQueryConnection(project=PROJECT, gcp_credentials=key, endpoint=self.server.url)
        return SettingsResource(
            root=str(self.folder),
            home=str(self.folder / "home"),
            providers=str(self.folder / "providers.yaml"),
            bigquery_dataset=f"{PROJECT}.{DATASET}",
            bigquery=connection,
        )

    def make(self, table: str, ids: str) -> None:
        """A table with id and text; ``ids``: an array of SQL."""
        self.sql(
            f"CREATE OR REPLACE TABLE {table} AS "
            f"SELECT id, CONCAT('{table} ', CAST(id AS STRING)) AS text FROM UNNEST({ids}) AS id"
        )

    def sql(self, statement: str) -> None:
        """Run a user's own statement."""
        config = bigquery.QueryJobConfig(default_dataset=f"{PROJECT}.{DATASET}")
        self.client.query(statement, config).result()

    def listings(self) -> int:
        """How often the dataset was listed by a statement."""
        return sum(each["operation"] == "jobs.insert:query" for each in self.server.log())
