"""The warehouse, for any asset that wants the tables of batch_llm.

Belongs here: the fields and `create`. Not here: SQL, freezing, publishing (batch_llm/warehouse).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dagster as dg
from dagster_gcp import BigQueryResource
from google.auth.exceptions import GoogleAuthError
from google.cloud.bigquery import Client as BigQueryClient
from pydantic import Field

from batch_llm.errors import ConfigurationError, WarehouseError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery_check import check_dataset
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["WarehouseResource"]


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse that the settings name, or the BigQuery dataset that is given here.

    ``bigquery`` is the connection for either; without it the machine's own credentials are used.
    """

    settings: SettingsResource
    bigquery: BigQueryResource | None = Field(
        default=None, description="The connection, when the warehouse is BigQuery."
    )
    bigquery_dataset: str | None = Field(default=None, description="PROJECT.DATASET")

    def create(self) -> Warehouse:
        """The warehouse; nothing is opened yet."""
        settings = self.settings.create()
        if self.bigquery_dataset is not None:
            settings = replace(settings, warehouse=f"bigquery:{self.bigquery_dataset}")
        return open_store(settings, make_bigquery_client=self._make_client()).warehouse

    def _make_client(self) -> Callable[[], BigQueryClient] | None:
        connection = self.bigquery
        if connection is None:
            return None

        def make() -> BigQueryClient:
            with connection.get_client() as client:  # its end takes back the credentials' file, and leaves the client
                return client

        return make

    def check_bigquery(self) -> str:
        """That the configured dataset answers, and where it is.

        Raises `WarehouseError`, which says what to do, when it does not; `ConfigurationError` when none is configured.
        """
        if self.bigquery is None or self.bigquery_dataset is None:
            raise ConfigurationError("no BigQuery connection is configured: give `bigquery` and `bigquery_dataset`")
        project, _, dataset = self.bigquery_dataset.partition(".")
        try:
            with self.bigquery.get_client() as client:
                return check_dataset(project, dataset, client)
        except GoogleAuthError as error:
            raise WarehouseError(
                f"no usable Google credentials for BigQuery dataset {self.bigquery_dataset} ({type(error).__name__}). "
                "On your own machine run `gcloud auth application-default login`; on a server give the machine a "
                "service account, or the resource its `gcp_credentials` from an environment variable"
            ) from None
