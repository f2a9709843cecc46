"""What every part of the server works on: time, rows, what exists, jobs, limits.

Belongs here: the one record that holds them. Not here: any behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.bigquery_server.catalog import Catalog
from tests.bigquery_server.clock import Clock
from tests.bigquery_server.jobs import Job, Jobs
from tests.bigquery_server.limits import Limits, Modifications
from tests.bigquery_server.schema import Schema
from tests.bigquery_server.settings import Settings
from tests.bigquery_server.storage import Segment, Storage
from tests.bigquery_server.tokens import Tokens
from tests.bigquery_server.upload import Upload

__all__ = ["ReadSession", "State"]


@dataclass(frozen=True)
class ReadSession:
    """Rows of one moment, to be read in streams."""

    name: str
    schema: Schema
    segment: Segment  # its rows, in their order
    rows: int
    streams: int  # each has a part of the rows, one after the other
    expires_ms: int


@dataclass
class State:
    """One server's memory."""

    storage: Storage
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.catalog = Catalog(self.clock)
        self.jobs = Jobs(self.clock)
        self.requests: dict[tuple[str, str], Job] = {}  # by project and requestId of jobs.query
        self.uploads: dict[str, Upload] = {}
        self.sessions: dict[str, ReadSession] = {}
        self.tokens = Tokens(self.clock)
        self.modifications = Modifications(self.clock)
