"""Pages of lists: of datasets, tables, jobs.

Belongs here: tokens of lists. Not here: pages of rows, which are pinned to a version (rows_api.py).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TypeVar

import orjson

from tests.bigquery_server.calls import Call
from tests.bigquery_server.errors import invalid

__all__ = ["paged", "read_token", "token_of"]

Item = TypeVar("Item")
DEFAULT_PAGE = 50


def token_of(**said: Any) -> str:
    """A page token; nobody but this server reads it."""
    return base64.urlsafe_b64encode(orjson.dumps(said)).decode()


def read_token(token: str) -> dict[str, Any]:
    """What `token_of` put into it."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise invalid(f"Invalid page token: {token}", "pageToken") from error
    if not isinstance(found, dict):
        raise invalid(f"Invalid page token: {token}", "pageToken")
    return found


def paged(call: Call, items: Sequence[Item]) -> tuple[Sequence[Item], str | None]:
    """The page a call asks for, and the token of the next one."""
    token = call.query.get("pageToken")
    start = int(read_token(token)["start"]) if token else 0
    end = start + (call.number("maxResults") or DEFAULT_PAGE)
    return items[start:end], token_of(start=end) if end < len(items) else None
