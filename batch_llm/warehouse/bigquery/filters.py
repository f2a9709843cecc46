"""What a user's filter depends on besides the input.

Belongs here: telling whether it may choose other rows of the same input. Not here: whether it is valid (sources.py).
BigQuery does not tell which functions' values change, so their names are looked for. One in a text or comment counts:
a run that freezes once too often asks nothing again, one that freezes too rarely misses rows.
"""

from __future__ import annotations

import re

__all__ = ["may_change"]

# the clock, chance, who asks, and tables whose version nobody looks at
# Source: https://cloud.google.com/bigquery/docs/cached-results#cache-exceptions (read 2026-11-29)
_CHANGING = re.compile(
    r"\b(CURRENT_(DATE|DATETIME|TIME|TIMESTAMP)|RAND|GENERATE_UUID|SESSION_USER|SELECT)\b", re.IGNORECASE
)


def may_change(where: str) -> bool:
    """See `Warehouse.may_change`."""
    return _CHANGING.search(where) is not None
