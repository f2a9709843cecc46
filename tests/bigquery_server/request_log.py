"""The log of calls, one JSON object a line.

Belongs here: what is written of a call. Not here: rows, which are never written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

__all__ = ["LOG_NAME", "RequestLog", "read_log"]

LOG_NAME = "requests.jsonl"


class RequestLog:
    """Appends to ``folder/requests.jsonl``; each line is out when the answer is."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOG_NAME).open("ab", buffering=0)

    def write(self, entry: dict[str, Any]) -> None:
        """One call."""
        self._file.write(orjson.dumps(entry) + b"\n")

    def clear(self) -> None:
        """As if there had been none."""
        self._file.truncate(0)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All calls so far."""
    return [orjson.loads(line) for line in (folder / LOG_NAME).read_bytes().splitlines()]
