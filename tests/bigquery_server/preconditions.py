"""If-Match: a change that is done only to the state that the caller has seen.

Belongs here: 412. Not here: etags (catalog.py). Jobs have no precondition.
Source: observed in google-cloud-bigquery 3.47 `Client.update_table`, which sends If-Match when the object has an etag.
"""

from __future__ import annotations

from tests.bigquery_server.calls import Call
from tests.bigquery_server.errors import ApiError

__all__ = ["check_etag"]


def check_etag(call: Call, etag: str) -> None:
    """412 when the caller has seen another state."""
    wanted = call.headers.get("if-match")
    if wanted not in (None, "*", etag):
        raise ApiError("conditionNotMet", "Precondition Failed", location="If-Match")
