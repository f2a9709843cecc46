"""How the server behaves where tests may choose.

Belongs here: switches with their defaults. Not here: BigQuery's limits (limits.py), faults (faults.py).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Set by ``server.configure(...)``, at any time."""

    job_s: float = 0.0  # how long a job takes by the server's clock; 0: it is done when the insert is answered
    require_token: bool = False  # refuse calls without one (a client with anonymous credentials sends none)
    token_s: float = 3600.0  # how long a token of /token is good
    default_location: str = "US"
    page_bytes: int = 10_000_000  # a page of rows is not larger than this
    read_message_bytes: int = 1_000_000  # a message of the Storage Read API has so many, roughly; one row at least
    read_streams: int = 2  # of a session that leaves their number to the server
    secured_tables: tuple[str, ...] = ()  # "dataset.table": with row access policies, all of its rows for the caller
    missing_permissions: tuple[str, ...] = ()  # e.g. "bigquery.tables.updateData"
