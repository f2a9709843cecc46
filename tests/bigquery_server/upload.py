"""A resumable upload that is under way.

Belongs here: the record. Not here: the protocol (uploads_api.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Upload"]


@dataclass
class Upload:
    """Grows chunk by chunk."""

    project: str
    said: Mapping[str, Any]  # the Job of the request that began it
    data: bytearray = field(default_factory=bytearray)
    answer: Mapping[str, Any] | None = None  # the Job's JSON once it is complete: asked again, it is said again
    job_id: str | None = None
