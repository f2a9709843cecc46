"""Whether a BigQuery dataset can be reached: what `doctor` says of ``BATCH_LLM_WAREHOUSE=bigquery:..``.

Belongs here: one look at one dataset, and what to do when it fails. Not here: reading or writing tables.
"""

from __future__ import annotations

import os

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.cloud import bigquery

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery import open_client

__all__ = ["check_dataset"]

_EMULATOR = "BIGQUERY_EMULATOR_HOST"
_ANSWER_S = 10.0  # for one request; a health check must not hang
_ALTOGETHER_S = 15.0  # with retries
_ROLES = "roles/bigquery.dataEditor on the dataset and roles/bigquery.jobUser on the project"


def check_dataset(project: str, dataset: str, client: bigquery.Client | None = None) -> str:
    """One line that says the dataset is reachable, and where it is.

    Raises `WarehouseError` that says what to do: no credentials, no right, no such dataset, no connection. A client
    that is passed in stays open; without one, ``BIGQUERY_EMULATOR_HOST`` is honoured and needs no credentials.
    """
    name = f"{project}.{dataset}"
    try:
        opened = client or open_client(project)
        try:
            retry = Retry(predicate=_passing, initial=0.2, maximum=2.0, timeout=_ALTOGETHER_S)
            found = opened.get_dataset(name, retry=retry, timeout=_ANSWER_S)
        finally:
            if client is None:
                opened.close()  # type: ignore[no-untyped-call]  # the client has no types here
    except auth.GoogleAuthError as error:
        raise WarehouseError(_credentials(name, error)) from error
    except (api.GoogleAPIError, ConnectionError, OSError) as error:
        raise WarehouseError(_refused(name, error)) from error
    emulator = os.environ.get(_EMULATOR)
    at = f", emulator at {emulator}" if emulator else ""
    return f"BigQuery dataset {name} is reachable (location {found.location or 'unknown'}{at})"


def _passing(error: BaseException) -> bool:
    return isinstance(error, api.TooManyRequests | api.ServerError)


def _credentials(name: str, error: Exception) -> str:
    return (
        f"no usable Google credentials for BigQuery dataset {name} ({_line(error)}). On your own machine run "
        "`gcloud auth application-default login`; on a server give the machine a service account, or set "
        "GOOGLE_APPLICATION_CREDENTIALS to its key file"
    )


def _refused(name: str, error: Exception) -> str:
    project, dataset = name.split(".", 1)
    if isinstance(error, api.NotFound):
        return f"there is no BigQuery dataset {name}; make it: `bq --location=EU mk --dataset {project}:{dataset}`"
    if isinstance(error, api.Forbidden):
        return f"no right to use BigQuery dataset {name} ({_line(error)}); ask for {_ROLES}"
    where = os.environ.get(_EMULATOR)
    hint = f"is the emulator running at {where} ({_EMULATOR})?" if where else "check the network and try again"
    return f"BigQuery dataset {name} could not be reached ({_line(error)}); {hint}"


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + ".."
