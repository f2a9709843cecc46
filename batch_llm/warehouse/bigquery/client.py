"""The clients of BigQuery: which project pays, whose credentials, which server.

Belongs here: opening one. Not here: calls (connection.py), where the facts come from (config/settings.py).
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.oauth2.service_account import Credentials as ServiceAccount
from pydantic import SecretStr

from batch_llm.config.secrets import register_secret
from batch_llm.config.settings import Settings
from batch_llm.errors import ConfigurationError

__all__ = ["EMULATOR", "STORAGE_EMULATOR", "client_for", "emulator_of", "open_client", "open_reader", "reader_for"]

EMULATOR = "BIGQUERY_EMULATOR_HOST"  # the client takes the address from this variable
STORAGE_EMULATOR = "BIGQUERY_STORAGE_GRPC_ENDPOINT"  # host:port; the name that users of other emulators know
# Source: https://cloud.google.com/bigquery/docs/authorization#scopes (read 2026-11-28)
_SCOPES = ("https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform")

# of a message; the client's own channels have the same
_ANY_LENGTH = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def emulator_of(endpoint: str | None) -> str | None:
    """The address of an emulator, when that is what a client with this ``endpoint`` reaches."""
    return endpoint or os.environ.get(EMULATOR) or None


def client_for(settings: Settings) -> bigquery.Client:
    """The client of the warehouse that the settings name; raises like `open_client`."""
    project, credentials = settings.bigquery_job_project, settings.bigquery_credentials
    if not project:
        raise ConfigurationError("the warehouse must be bigquery:PROJECT.DATASET")
    return open_client(project, credentials=credentials, endpoint=settings.bigquery_endpoint)


def reader_for(settings: Settings) -> Any | None:
    """The client of the Storage Read API for the warehouse that the settings name; None when they switch it off, too.

    See `open_reader`.
    """
    if not settings.bigquery_storage:
        return None
    return open_reader(credentials=settings.bigquery_credentials, endpoint=settings.bigquery_endpoint)


def open_client(project: str, *, credentials: SecretStr | None = None, endpoint: str | None = None) -> bigquery.Client:
    """A client; close it. An emulator needs no credentials, and gets those that are given all the same.

    Args:
        project: Where jobs run, and who pays them; tables may lie in others.
        credentials: The content of a service account's key file, in base64 or plain; None: what Google's libraries find
            (Application Default Credentials).
        endpoint: ``http://host:port`` of an emulator; None: ``BIGQUERY_EMULATOR_HOST``, else Google.

    Raises:
        ConfigurationError: The credentials cannot be read (they are never shown).
        google.auth.exceptions.GoogleAuthError: There are none.
    """
    options: dict[str, Any] = {"project": project}
    if credentials is not None:
        options["credentials"] = _credentials(credentials)
    elif emulator_of(endpoint) is not None:  # the client would look for some even then
        options["credentials"] = AnonymousCredentials()  # type: ignore[no-untyped-call]
    if endpoint is not None:
        options["client_options"] = ClientOptions(api_endpoint=endpoint)
    return bigquery.Client(**options)


def open_reader(*, credentials: SecretStr | None = None, endpoint: str | None = None) -> Any | None:
    """A client of the Storage Read API, for the same arguments as `open_client`.

    None: rows are read by REST, because the extra ``bigquery-storage`` is not installed, or the emulator has no
    Storage Read API that ``BIGQUERY_STORAGE_GRPC_ENDPOINT`` names. An emulator gets no credentials, and no TLS.

    Raises:
        ConfigurationError: The credentials cannot be read (they are never shown).
        google.auth.exceptions.GoogleAuthError: There are none.
    """
    try:
        import grpc
        from google.cloud.bigquery_storage_v1.services import big_query_read
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport
    except ImportError:
        return None
    if emulator_of(endpoint) is None:
        return big_query_read.BigQueryReadClient(credentials=None if credentials is None else _credentials(credentials))
    address = os.environ.get(STORAGE_EMULATOR)
    if not address:
        return None
    channel = grpc.insecure_channel(address, options=_ANY_LENGTH)
    return big_query_read.BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))


def _credentials(given: SecretStr) -> ServiceAccount:
    text = given.get_secret_value().strip()
    register_secret(text)
    try:
        info = json.loads(text if text.startswith("{") else base64.b64decode(text))
        register_secret(info["private_key"])
        made: ServiceAccount = ServiceAccount.from_service_account_info(info, scopes=_SCOPES)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, KeyError, auth.GoogleAuthError) as error:
        raise ConfigurationError(  # without the original: its text may hold a part of the key
            f"the BigQuery credentials that are configured (not shown) cannot be read ({type(error).__name__}): give "
            "the content of a service account's JSON key file, as it is or in base64 (`base64 -w0 key.json`); "
            "credentials of other kinds are found through GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    return made
