"""One call of the API and its answer, apart from HTTP.

Belongs here: what handlers take and give. Not here: sockets (server.py), what calls do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.state import State

__all__ = ["Call", "Handler", "Reply"]


@dataclass(frozen=True)
class Call:
    """A request."""

    operation: str  # tables.get, jobs.insert, ...
    path: Mapping[str, str]  # the parts of the path by name
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)
    base_url: str = ""
    job_error: ApiError | None = None  # injected

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body, which must be an object."""
        if not self.body:
            return {}
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ApiError("parseError", f"Parse Error: {error}", status=400) from error
        if not isinstance(found, dict):
            raise ApiError("parseError", "Parse Error: the body is no object", status=400)
        return found

    def number(self, name: str) -> int | None:
        """A query parameter that is a whole number."""
        text = self.query.get(name)
        if text is None:
            return None
        if not text.isdecimal():
            raise invalid(f"Invalid value for {name}: {text}", name)
        return int(text)


@dataclass(frozen=True)
class Reply:
    """An answer."""

    body: Mapping[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    job_id: str | None = None  # for the log


Handler = Callable[[State, Call], Reply]
