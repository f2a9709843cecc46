"""The connection to BigQuery: dagster-gcp's resource, with credentials that stay in memory and an emulator's address.

Belongs here: the fields and `get_client`. Not here: how a client is made (batch_llm/warehouse/bigquery/client.py).
dagster-gcp hands ``gcp_credentials`` over through a file and an environment variable of the whole process, and refuses
them when that variable is set; sensors of one daemon run in threads, so here they never leave memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from dagster_gcp import BigQueryResource
from google.cloud import bigquery
from pydantic import Field, SecretStr

from batch_llm.errors import ConfigurationError
from batch_llm.warehouse.bigquery import open_client

__all__ = ["BigQueryConnection"]


class BigQueryConnection(BigQueryResource):
    """A project of BigQuery; what is not given is what Google's libraries find."""

    endpoint: str | None = Field(
        default=None, description="http://host:port of an emulator; else BIGQUERY_EMULATOR_HOST, else Google."
    )

    @property
    def credentials(self) -> SecretStr | None:
        """The credentials that were given: the content of a key file, in base64 or as it is."""
        return SecretStr(self.gcp_credentials) if self.gcp_credentials else None

    @contextmanager
    def get_client(self) -> Iterator[bigquery.Client]:
        """A client for assets of your own, closed at the end. Raises `ConfigurationError` without a project."""
        if self.project is None:
            raise ConfigurationError("the resource `bigquery` needs `project`: the one whose jobs these are")
        with closing(open_client(self.project, credentials=self.credentials, endpoint=self.endpoint)) as client:
            yield client
