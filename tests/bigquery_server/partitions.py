"""Partitioning: by a range of whole numbers, by a time column, by the time of the load.

Belongs here: what a partition is called, into which one a row goes, what a specification may say.
Not here: rows (storage.py), how many there may be (limits.py).
Source: https://cloud.google.com/bigquery/docs/partitioned-tables (read 2026-11-28).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.bigquery_server.errors import invalid
from tests.bigquery_server.schema import Schema, quoted

__all__ = ["NULL_PARTITION", "UNPARTITIONED", "Partitioning", "partitioning_from_json"]

NULL_PARTITION = "__NULL__"
UNPARTITIONED = "__UNPARTITIONED__"  # numbers outside the range; rows still in the streaming buffer
FORMATS = {"HOUR": "%Y%m%d%H", "DAY": "%Y%m%d", "MONTH": "%Y%m", "YEAR": "%Y"}
TIMES = {"DATE": ("DAY", "MONTH", "YEAR"), "DATETIME": tuple(FORMATS), "TIMESTAMP": tuple(FORMATS)}
MAX_PARTITIONS = 10_000


@dataclass(frozen=True)
class Partitioning:
    """How a table is cut."""

    column: str | None  # None: by the time of the load
    unit: str | None = None  # HOUR, DAY, MONTH, YEAR; None: a range of whole numbers
    start: int = 0
    end: int = 0
    interval: int = 1
    expiration_ms: str | None = None

    def expression(self, now: datetime) -> str:
        """SQL: the partition of a row."""
        if self.column is None:
            return f"'{now.strftime(FORMATS[self.unit or 'DAY'])}'"
        name = quoted(self.column)
        if self.unit is not None:
            return f"coalesce(strftime({name}, '{FORMATS[self.unit]}'), '{NULL_PARTITION}')"
        inside = f"{self.start} + (({name} - {self.start}) // {self.interval}) * {self.interval}"
        return (
            f"CASE WHEN {name} IS NULL THEN '{NULL_PARTITION}' "
            f"WHEN {name} < {self.start} OR {name} >= {self.end} THEN '{UNPARTITIONED}' "
            f"ELSE CAST({inside} AS VARCHAR) END"
        )

    def check(self, partition: str, table: str) -> None:
        """Refuse a decorator (what stands behind `$`) that names no partition of this table."""
        if partition in (NULL_PARTITION, UNPARTITIONED) or (self._is_range() if self.unit is None else self._is_time())(
            partition
        ):
            return
        raise invalid(f'Invalid partition decorator "{partition}" for table {table}: it names no partition.')

    def _is_range(self) -> Any:
        def known(partition: str) -> bool:
            if not re.fullmatch(r"-?\d{1,19}", partition):
                return False
            number = int(partition)
            return self.start <= number < self.end and (number - self.start) % self.interval == 0

        return known

    def _is_time(self) -> Any:
        pattern = FORMATS[self.unit or "DAY"]

        def known(partition: str) -> bool:
            try:
                return datetime.strptime(partition, pattern).replace(tzinfo=UTC).strftime(pattern) == partition
            except ValueError:
                return False

        return known

    def against(self, schema: Schema) -> None:
        """Refuse a column that is not there or cannot be cut that way."""
        if self.column is None:
            return
        field = next((each for each in schema if each.name.lower() == (self.column or "").lower()), None)
        if field is None:
            raise invalid(f"The field specified for partitioning cannot be found in the schema: {self.column}.")
        if field.mode == "REPEATED":
            raise invalid(f"The field specified for partitioning cannot be REPEATED: {self.column}.")
        fits = field.type == "INTEGER" if self.unit is None else self.unit in TIMES.get(field.type, ())
        if not fits:
            raise invalid(f"Partitioning by {self.unit or 'range'} does not fit {self.column} of type {field.type}.")

    def to_json(self) -> dict[str, Any]:
        """As REST shows it."""
        if self.unit is not None:
            told = {"type": self.unit, "field": self.column, "expirationMs": self.expiration_ms}
            return {"timePartitioning": {key: value for key, value in told.items() if value is not None}}
        span = {"start": str(self.start), "end": str(self.end), "interval": str(self.interval)}
        return {"rangePartitioning": {"field": self.column, "range": span}}


def partitioning_from_json(said: Mapping[str, Any]) -> Partitioning | None:
    """Of a table resource, or of a load or query configuration."""
    by_time, by_range = said.get("timePartitioning"), said.get("rangePartitioning")
    if by_time and by_range:
        raise invalid("Only one of timePartitioning and rangePartitioning can be specified.")
    if by_time:
        unit = str(by_time.get("type", ""))
        if unit not in FORMATS:
            raise invalid(f"Invalid value for timePartitioning.type: {unit}")
        return Partitioning(by_time.get("field"), unit, expiration_ms=by_time.get("expirationMs"))
    if not by_range:
        return None
    span = by_range.get("range") or {}
    made = Partitioning(
        by_range.get("field"), None, int(span.get("start", 0)), int(span.get("end", 0)), int(span.get("interval", 0))
    )
    return checked_range(made)


def checked_range(made: Partitioning) -> Partitioning:
    """The range, unless it makes no sense or too many partitions."""
    if made.interval < 1 or made.end <= made.start:
        raise invalid("Invalid range partitioning: start must be less than end, interval must be positive.")
    number = -(-(made.end - made.start) // made.interval)
    if number > MAX_PARTITIONS:
        raise invalid(f"Range partitioning would make {number} partitions; the limit is {MAX_PARTITIONS}.")
    return made
