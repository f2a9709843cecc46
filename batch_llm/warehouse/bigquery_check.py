"""Whether BigQuery can be worked with: what `doctor` says of ``BATCH_LLM_WAREHOUSE=bigquery:..``.

Belongs here: one look at one dataset and at every right that a run needs, and what to do when one is missing. Not here:
reading or writing tables. It makes one empty table that drops itself within the hour, asks what it may do with it, and
drops it; nothing is billed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core import exceptions as api
from google.api_core.retry import Retry
from google.auth import exceptions as auth
from google.cloud import bigquery

from batch_llm.config.settings import Settings
from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery import client_for, emulator_of, reader_for
from batch_llm.warehouse.bigquery.failures import Failure

__all__ = ["DATASET_RIGHTS", "JOB_RIGHTS", "READ_RIGHT", "check_bigquery"]

_ANSWER_S = 10.0  # for one request; a health check must not hang
_ALTOGETHER_S = 15.0  # with retries
_EMULATOR = "BIGQUERY_EMULATOR_HOST"

# Source: https://cloud.google.com/bigquery/docs/access-control (read 2026-11-28)
_DATASET_ROLE = "roles/bigquery.dataEditor on the dataset {dataset}"
_JOB_ROLE = "roles/bigquery.jobUser on the project {project}"
_TABLE_RIGHTS = (  # what `testIamPermissions` tells of one table, as the caller's rights in the whole dataset
    "bigquery.tables.get",
    "bigquery.tables.getData",
    "bigquery.tables.update",
    "bigquery.tables.updateData",
    "bigquery.tables.delete",
)
DATASET_RIGHTS = ("bigquery.datasets.get", "bigquery.tables.list", "bigquery.tables.create", *_TABLE_RIGHTS)
"""The rights a run needs in the warehouse's dataset."""
JOB_RIGHTS = ("bigquery.jobs.create",)  # who made a job may look at it without a right
"""The rights a run needs in the project that pays for jobs."""
READ_RIGHT = "bigquery.readsessions.create"  # without it rows come by REST, which is slower
_READ_ROLE = "roles/bigquery.readSessionUser on the project {project}"
_STORAGE = "the Storage Read API of BigQuery (bigquerystorage.googleapis.com, gRPC)"


def check_bigquery(settings: Settings) -> str:
    """One line that says the dataset is reachable, where it is, and that every right is there.

    Raises `WarehouseError` that says what to do: no credentials, no such dataset, no connection, or which rights are
    missing and which role has them. Raises `ConfigurationError` for credentials that cannot be read.
    """
    name = str(settings.bigquery_dataset)
    emulator = emulator_of(settings.bigquery_endpoint)
    try:
        with closing(client_for(settings)) as client, reader_for(settings) or nullcontext() as reader:
            found = client.get_dataset(name, **_patient())
            missing = list(_Rights(client, found, settings.bigquery_location, reader).missing())
    except auth.GoogleAuthError as error:
        raise WarehouseError(_no_credentials(name, error)) from None
    except (api.GoogleAPIError, ConnectionError, OSError) as error:
        raise WarehouseError(_refused(name, error, emulator)) from None
    if set(missing) - {READ_RIGHT}:
        raise WarehouseError(_without_rights(missing, name, str(settings.bigquery_job_project)))
    at = f", emulator at {emulator}" if emulator else ""
    line = f"BigQuery dataset {name} is reachable (location {found.location or 'unknown'}{at}), every right is there"
    if reader is None:
        return line
    if not missing:
        return f"{line}; rows come by the Storage Read API"
    role = _READ_ROLE.format(project=settings.bigquery_job_project)
    return f"{line}; rows come by REST, for {READ_RIGHT} is missing (optional, faster: ask for {role})"


def _patient() -> dict[str, Any]:
    retry = Retry(predicate=_passing, initial=0.2, maximum=2.0, timeout=_ALTOGETHER_S)
    return {"retry": retry, "timeout": _ANSWER_S}


def _passing(error: BaseException) -> bool:
    return isinstance(error, api.TooManyRequests | api.ServerError)


@dataclass(frozen=True, slots=True)
class _Rights:
    """What the caller may do in a dataset and with jobs; found out by doing it."""

    client: bigquery.Client
    dataset: bigquery.Dataset
    location: str | None  # where jobs run; None: where the dataset is
    reader: Any | None  # the client of the Storage Read API, when rows are to come by it

    def missing(self) -> Iterator[str]:
        """The rights that are missing, as far as they can be told; without ``tables.create`` not those of a table."""
        if not self._may(self._run_job):
            yield "bigquery.jobs.create"
        if not self._may(self._list_tables):
            yield "bigquery.tables.list"
        probe = bigquery.Table(self.dataset.reference.table(f"batch_llm_doctor_{uuid.uuid4().hex[:12]}"))
        probe.schema = [bigquery.SchemaField("probe", "INT64")]
        probe.expires = datetime.now(UTC) + timedelta(hours=1)
        if not self._may(lambda: self.client.create_table(probe, **_patient())):
            yield "bigquery.tables.create"
            return
        try:
            held = self.client.test_iam_permissions(probe, list(_TABLE_RIGHTS), **_patient()).get("permissions", [])
            if "bigquery.tables.getData" in held and not self._may(lambda: self._open_session(probe)):
                yield READ_RIGHT
        finally:
            self._may(lambda: self.client.delete_table(probe, not_found_ok=True, **_patient()))
        yield from (right for right in _TABLE_RIGHTS if right not in held)

    def _may(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except api.Forbidden:
            return False
        return True

    def _run_job(self) -> None:
        config = bigquery.QueryJobConfig(dry_run=True, use_legacy_sql=False)
        where = self.location or self.dataset.location
        self.client.query("SELECT 1", config, location=where, job_retry=None, **_patient())

    def _list_tables(self) -> None:
        list(self.client.list_tables(self.dataset.reference, max_results=1, **_patient()))

    def _open_session(self, table: bigquery.Table) -> None:
        if self.reader is None:
            return
        session = {"table": table.path.removeprefix("/"), "data_format": "ARROW"}
        parent = f"projects/{self.client.project}"
        try:
            self.reader.create_read_session(request={"parent": parent, "read_session": session}, **_patient())
        except (api.RetryError, api.ServerError) as error:
            raise WarehouseError(
                f"{_STORAGE} could not be reached ({_line(error)}); open the way to it, or let rows come by REST: "
                "BATCH_LLM_BIGQUERY_STORAGE=off"
            ) from None


def _without_rights(missing: list[str], name: str, project: str) -> str:
    missing = [right for right in missing if right != READ_RIGHT]
    roles = {
        _DATASET_ROLE.format(dataset=name): [right for right in missing if right not in JOB_RIGHTS],
        _JOB_ROLE.format(project=project): [right for right in missing if right in JOB_RIGHTS],
    }
    asked = "; ".join(f"{', '.join(rights)}: ask for {role}" for role, rights in roles.items() if rights)
    return f"BigQuery dataset {name} is reachable, but rights are missing: {asked}"


def _no_credentials(name: str, error: Exception) -> str:
    return (
        f"no usable Google credentials for BigQuery dataset {name} ({type(error).__name__}). On your own machine run "
        "`gcloud auth application-default login`; on a server give the machine a service account, or set "
        "GOOGLE_APPLICATION_CREDENTIALS to its key file"
    )


def _refused(name: str, error: Exception, emulator: str | None) -> str:
    project, dataset = name.rsplit(".", 1)
    if isinstance(error, api.NotFound):
        return f"there is no BigQuery dataset {name}; make it: `bq --location=EU mk --dataset {project}:{dataset}`"
    if isinstance(error, api.Forbidden):
        return f"no right to use BigQuery dataset {name} ({_line(error)}); ask for {_DATASET_ROLE.format(dataset=name)}"
    hint = f"is the emulator running at {emulator} ({_EMULATOR})?" if emulator else "check the network and try again"
    return f"BigQuery dataset {name} could not be reached ({_line(error)}); {hint}"


def _line(error: Exception) -> str:
    return str(replace(Failure.of(error), advice=""))  # never the exception's own text: a proxy's password may be in it
