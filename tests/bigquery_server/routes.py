"""Which path is which call of the API.

Belongs here: paths, Google's names of the calls. Not here: what they do.
Source: https://cloud.google.com/bigquery/docs/reference/rest (read 2026-11-28).
"""

from __future__ import annotations

from tests.bigquery_server import datasets_api, jobs_api, permissions, rows_api, tables_api, uploads_api
from tests.bigquery_server.calls import Handler

__all__ = ["ROUTES"]

API = "/bigquery/v2/projects"
PROJECT = API + "/{project}"
DATASET = PROJECT + "/datasets/{dataset}"
TABLE = DATASET + "/tables/{table:[^/:]+}"
JOB = PROJECT + "/jobs/{job}"
UPLOAD = "/upload" + PROJECT + "/jobs"

ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("GET", API, "projects.list", datasets_api.projects),
    ("POST", PROJECT + "/datasets", "datasets.insert", datasets_api.insert),
    ("GET", PROJECT + "/datasets", "datasets.list", datasets_api.list_all),
    ("GET", DATASET, "datasets.get", datasets_api.get),
    ("PATCH", DATASET, "datasets.patch", datasets_api.patch),
    ("PUT", DATASET, "datasets.update", datasets_api.patch),
    ("DELETE", DATASET, "datasets.delete", datasets_api.delete),
    ("POST", DATASET + "/tables", "tables.insert", tables_api.insert),
    ("GET", DATASET + "/tables", "tables.list", tables_api.list_all),
    ("GET", TABLE, "tables.get", tables_api.get),
    ("PATCH", TABLE, "tables.patch", tables_api.patch),
    ("PUT", TABLE, "tables.update", tables_api.patch),
    ("DELETE", TABLE, "tables.delete", tables_api.delete),
    ("POST", TABLE + ":testIamPermissions", "tables.testIamPermissions", permissions.iam_permissions),
    ("POST", TABLE + ":getIamPolicy", "tables.getIamPolicy", permissions.iam_policy),
    ("GET", TABLE + "/data", "tabledata.list", rows_api.list_rows),
    ("POST", TABLE + "/insertAll", "tabledata.insertAll", rows_api.insert_all),
    ("POST", PROJECT + "/jobs", "jobs.insert", jobs_api.insert),
    ("GET", PROJECT + "/jobs", "jobs.list", jobs_api.list_all),
    ("GET", JOB, "jobs.get", jobs_api.get),
    ("POST", JOB + "/cancel", "jobs.cancel", jobs_api.cancel),
    ("DELETE", JOB + "/delete", "jobs.delete", jobs_api.delete),
    ("POST", PROJECT + "/queries", "jobs.query", jobs_api.query),
    ("GET", PROJECT + "/queries/{job}", "jobs.getQueryResults", jobs_api.query_results),
    ("POST", UPLOAD, "jobs.insert", uploads_api.start),
    ("PUT", UPLOAD, "jobs.upload", uploads_api.put),
)
