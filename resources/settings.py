"""Where this code location works: home, providers, warehouse, journal.

Belongs here: the fields and `create`. Not here: what the environment variables mean (batch_llm/config/settings.py).
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import dagster as dg
from pydantic import Field

from batch_llm.config.settings import Settings
from batch_llm.errors import ConfigurationError
from resources.bigquery import BigQueryConnection

__all__ = ["SettingsResource"]


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the resource itself is what assets get
    """The settings that assets, sensors and schedules work with; what is not given comes from the environment."""

    root: str = Field(description="The folder that relative paths are relative to: the checkout.")
    home: str | None = Field(default=None, description="State; else BATCH_LLM_HOME, else .batch_llm in the root.")
    providers: str | None = Field(default=None, description="The providers file; else BATCH_LLM_PROVIDERS.")

    bigquery_dataset: str | None = Field(
        default=None, description="PROJECT.DATASET: the warehouse; else BATCH_LLM_WAREHOUSE, else DuckDB in the home."
    )
    bigquery: BigQueryConnection | None = Field(
        default=None, description="How BigQuery is reached; else the machine's own credentials."
    )

    @property
    def declared_dataset(self) -> str | None:
        """The BigQuery dataset of the warehouse, as far as it is known when definitions are loaded; None: another."""
        given = self.bigquery_dataset
        if isinstance(given, dg.EnvVar):  # resolved later, for runs and sensors
            return given.get_value()
        try:
            return given or Settings.from_environment(cwd=Path(self.root)).bigquery_dataset
        except ConfigurationError:  # whoever works with the settings says what is wrong
            return None

    def create(self) -> Settings:
        """The settings. Raises `ConfigurationError` when a variable is wrong."""
        given = {"BATCH_LLM_HOME": self.home, "BATCH_LLM_PROVIDERS": self.providers}
        environ = {**os.environ, **{name: value for name, value in given.items() if value is not None}}
        found = Settings.from_environment(environ, cwd=Path(self.root))
        if self.bigquery_dataset is not None:
            found = replace(found, warehouse=f"bigquery:{self.bigquery_dataset}")
        if self.bigquery is not None:
            found = replace(
                found,
                bigquery_project=self.bigquery.project or found.bigquery_project,
                bigquery_location=self.bigquery.location or found.bigquery_location,
                bigquery_credentials=self.bigquery.credentials,
                bigquery_endpoint=self.bigquery.endpoint,
            )
        return found
