"""The warehouse, for any asset that wants the tables of batch_llm.

Belongs here: the fields and `create`. Not here: SQL, freezing, publishing (batch_llm/warehouse).
"""

from __future__ import annotations

import dagster as dg
from dagster_gcp import BigQueryResource
from google.auth.exceptions import GoogleAuthError
from pydantic import Field

from batch_llm.errors import NotYetAvailable, WarehouseError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery_check import check_dataset
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["WarehouseResource"]


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse that the settings name.

    A BigQuery connection can be given and is tried; results do not go there yet, which `create` says instead of writing
    elsewhere.
    """

    settings: SettingsResource
    bigquery: BigQueryResource | None = Field(
        default=None, description="The connection, when the warehouse is BigQuery."
    )
    bigquery_dataset: str | None = Field(default=None, description="PROJECT.DATASET")

    def create(self) -> Warehouse:
        """The warehouse. Raises `NotYetAvailable` for BigQuery, `WarehouseError` for one that does not even answer."""
        if self.bigquery_dataset is not None:
            raise NotYetAvailable(f"{self.check_bigquery()}, but as warehouse it is not yet available: use DuckDB")
        return open_store(self.settings.create()).warehouse

    def check_bigquery(self) -> str:
        """That the configured dataset answers, and where it is.

        Raises `WarehouseError`, which says what to do, when it does not; `NotYetAvailable` when none is configured.
        """
        if self.bigquery is None or self.bigquery_dataset is None:
            raise NotYetAvailable("no BigQuery connection is configured")
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
