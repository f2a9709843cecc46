"""An SQL queue in SQLite (WAL): rows are claimed, and done when their answer is committed, one commit per answer.

Belongs here: this queue; SQLite because it needs no server, so it is the cheapest of its kind. Not here: calling.
Source: https://sqlite.org/wal.html: with synchronous=NORMAL a commit survives the end of the process (read 2026-11-21).
"""

from __future__ import annotations

import sqlite3

import pyarrow.parquet as pq

__all__ = ["SqlQueue"]

WAITING, CLAIMED, DONE = 0, 1, 2
TABLES = """
CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL, status INTEGER NOT NULL, body BLOB);
CREATE INDEX IF NOT EXISTS open_rows ON rows (id) WHERE status = 0;
CREATE TABLE IF NOT EXISTS filled (at INTEGER);
"""
CLAIM = """
UPDATE rows SET status = 1 WHERE id IN (SELECT id FROM rows WHERE status = 0 ORDER BY id LIMIT ?) RETURNING id, text
"""
CHUNK_ROWS = 10_000


class SqlQueue:
    """``place``: the database's path. One process; several would note whose a claim is, and since when."""

    def __init__(self, table: str, place: str) -> None:
        """Fills the table the first time; later gives back what was claimed and not answered."""
        self._database = sqlite3.connect(place, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(TABLES)
        if self._database.execute("SELECT count(*) FROM filled").fetchone() == (0,):
            self._fill(table)
        self._database.execute("UPDATE rows SET status = ? WHERE status = ?", (WAITING, CLAIMED))

    def take(self, rows: int) -> list[tuple[int, str, str]]:
        """See `worker.Queue`."""
        return [(number, text, "") for number, text in self._database.execute(CLAIM, (rows,)).fetchall()]

    def keep(self, row: tuple[int, str, str], answer: bytes) -> None:
        """See `worker.Queue`."""
        self._database.execute("UPDATE rows SET status = ?, body = ? WHERE id = ?", (DONE, answer, row[0]))

    def answers(self) -> list[int]:
        """See `worker.Queue`."""
        return [number for (number,) in self._database.execute("SELECT id FROM rows WHERE status = ?", (DONE,))]

    def _fill(self, table: str) -> None:
        self._database.execute("BEGIN")
        for batch in pq.ParquetFile(table).iter_batches(CHUNK_ROWS):
            rows = [(row["id"], row["text"]) for row in batch.to_pylist()]
            self._database.executemany("INSERT INTO rows (id, text, status) VALUES (?, ?, 0)", rows)
        self._database.execute("INSERT INTO filled VALUES (1)")
        self._database.execute("COMMIT")
