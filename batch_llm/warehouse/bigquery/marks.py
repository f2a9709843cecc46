"""What our tables say of themselves: JSON in the table's description.

Belongs here: writing and reading it. Not here: what a mark is used for. Labels could not hold it: they are lower case
and short. A description that a user has rewritten is nobody's mark.
Source: https://cloud.google.com/bigquery/docs/labels-intro#requirements (read 2026-11-28)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["mark", "read_mark", "stored_key"]

_MAKER = "batch_llm"


def mark(**facts: Any) -> str:
    """The description of a table of ours."""
    return json.dumps({"made_by": _MAKER, **facts}, ensure_ascii=False)


def read_mark(description: str | None) -> Mapping[str, Any] | None:
    """The facts of such a description; None when it is somebody else's."""
    try:
        read = json.loads(description or "null")
    except ValueError:
        return None
    return read if isinstance(read, dict) and read.get("made_by") == _MAKER else None


def stored_key(description: str | None) -> tuple[str, ...] | None:
    """The key columns that an output remembers."""
    found = read_mark(description)
    return tuple(found["key"]) if found is not None and isinstance(found.get("key"), list) else None
