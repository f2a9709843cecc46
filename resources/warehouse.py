"""The warehouse, for any asset that wants the tables of batch_llm.

Belongs here: the fields and `create`. Not here: which warehouse it is (settings.py), SQL, freezing, publishing
(batch_llm/warehouse).
"""

from __future__ import annotations

import dagster as dg

from batch_llm.errors import ConfigurationError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery_check import check_bigquery
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["WarehouseResource"]


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The warehouse that the settings name: what jobs, sensors and the command line work with."""

    settings: SettingsResource

    def create(self) -> Warehouse:
        """The warehouse; nothing is opened yet."""
        return open_store(self.settings.create()).warehouse

    def check_bigquery(self) -> str:
        """That the dataset answers and every right is there; where it is.

        Raises `WarehouseError`, which says what to do, when not; `ConfigurationError` when the warehouse is another.
        """
        settings = self.settings.create()
        if settings.bigquery_dataset is None:
            raise ConfigurationError("the warehouse is not BigQuery: give the settings `bigquery_dataset`")
        return check_bigquery(settings)
