"""Opening the DuckDB file: late, briefly, one at a time.

Belongs here: connections, the file's lock, transactions, the folder for what spills to disk. Not here: any table.
One process owns a DuckDB file: while it is open for writing nobody else can open it, not even to read. So every
operation opens it for itself and closes it at once, and waits a while when somebody else has it.
Source: https://duckdb.org/docs/stable/connect/concurrency (read 2026-11-20); measured with 1.5.6 and 2.0.0.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb

from batch_llm.errors import WarehouseError, WarehouseRefused
from batch_llm.folders import private_folder
from batch_llm.memory import give_back

__all__ = ["Database", "full_disk_told", "transaction"]

_log = logging.getLogger(__name__)
_SILENT_S = 3.0  # a wait that is longer than somebody else's publish is told
LOCK_WAIT_S = 60.0  # somebody else's publish takes well under a second, freezing a large table some seconds
_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 1.0
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_STALE_AFTER_S = 24 * 3600.0  # what a killed process left in the temporary folder
_LOCKED = "could not set lock"
# What `write_lean` tries before all of it. DuckDB keeps the blocks it has read as long as its limit allows: taking
# 500,000 short rows from one table to another added 120 MB to the process under 512 MB and 26 MB under the first of
# these, as fast; replacing a million rows by key, or rows of some kB, need more (measured, 2.0.0)
LEAN_MEMORY = ("20MB", "48MB", "96MB")
# how running out of memory is said: at work, when a transaction is committed
_OUT_OF_MEMORY = (duckdb.OutOfMemoryException, duckdb.TransactionException)
_NO_ROOM_FOR_LOG = (duckdb.OutOfMemoryException, duckdb.FatalException)
# what DuckDB says of a file between the moment its maker created it and the moment the maker locked it: 12 of 600 first
# openings by three processes at once (measured, 2.0.0); the next try found it locked, or made
_NOT_MADE = "not a valid duckdb database file"
_MADE_WITHIN_S = 1.0

T = TypeVar("T")

_threads_turn: dict[Path, threading.Lock] = {}
_threads_turn_guard = threading.Lock()


class Database:
    """One DuckDB file, and connections without a file for work that needs none."""

    def __init__(
        self,
        path: Path,
        memory_limit: str,
        *,
        lock_wait_s: float = LOCK_WAIT_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``memory_limit`` as DuckDB writes it (512MB); what needs more spills to ``<folder of path>/tmp``."""
        self.path = path.absolute()
        self.temporary = self.path.parent / "tmp"
        self._memory_limit = memory_limit
        self._lean: tuple[str, ...] = (*LEAN_MEMORY, memory_limit)  # what is left to try
        self._lock_wait_s = lock_wait_s
        self._sleep = sleep

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, made if need be. Raises `WarehouseError` when another process keeps it."""
        with self._writing(self._memory_limit) as connection:
            yield connection

    def write_lean(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """``work``, all or nothing, on the file with little memory; again with more when that is not enough."""
        done: list[T] = []
        give_back()
        try:
            with self._writing(self._lean[0]) as connection:
                done.append(self._attempted(connection, work))
                self._take_in_log(connection)
        except WarehouseError as error:
            if not (done and isinstance(error.__cause__, _NO_ROOM_FOR_LOG)):
                raise
            # committed, but the log could not be taken into the file: the database object may be lost, nothing else
            self._lean = self._lean[-1:]
            with self.write() as connection:
                self._take_in_log(connection)
        return done[0]

    def scratch_lean(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """``work``, which changes nothing, without the file; with little memory, again with more when need be."""
        with self._session(duckdb.connect, self._lean[0]) as connection:
            return self._attempted(connection, work)

    def _attempted(self, connection: duckdb.DuckDBPyConnection, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        while len(self._lean) > 1:
            try:
                return work(connection)
            except (*_OUT_OF_MEMORY, WarehouseError) as error:
                if not _is_out_of_memory(error):
                    raise
                self._lean = self._lean[1:]  # for good: the next slice's rows are as wide
                connection.execute(f"SET memory_limit = '{self._lean[0]}'").fetchall()
        return work(connection)

    def _take_in_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Closing does this too, but keeps silent when memory runs out, and leaves it to whoever opens next."""
        # another connection of this process (a notebook's) may be writing: then the log stays until that one is closed
        with contextlib.suppress(duckdb.TransactionException):
            connection.execute("CHECKPOINT").fetchall()
        # it may also be reading: the limit is the open file's, not the connection's
        connection.execute(f"SET memory_limit = '{self._memory_limit}'").fetchall()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The file, or an empty database when there is none yet. Raises like `write`."""
        if not self.path.exists():
            with self.scratch() as connection:
                yield connection
            return
        with self._turn(), self._session(lambda: self._patient(self._open_readable), self._memory_limit) as connection:
            yield connection

    @contextmanager
    def _writing(self, memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
        with full_disk_told(self.path.parent), _writable(self.path.parent):
            private_folder(self.path.parent)
        with self._turn(), self._session(lambda: self._patient(self._open_writable), memory) as connection:
            yield connection

    @contextmanager
    def scratch(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection without the file, under the same memory limit."""
        with self._session(duckdb.connect, self._memory_limit) as connection:
            yield connection

    @contextmanager
    def temporary_folder(self) -> Iterator[Path]:
        """A folder that is gone afterwards; what a killed process left is swept away after a day.

        A disk that is full meanwhile raises `WarehouseError`.
        """
        with full_disk_told(self.temporary):
            with _writable(self.temporary):
                private_folder(self.temporary)
                _sweep(self.temporary)
                made = tempfile.TemporaryDirectory(dir=self.temporary, prefix=f"{os.getpid()}-")
            with made as folder:
                yield Path(folder)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with _threads_turn_guard:
            turn = _threads_turn.setdefault(self.path, threading.Lock())
        with turn:
            yield

    @contextmanager
    def _session(
        self, connect: Callable[[], duckdb.DuckDBPyConnection], memory: str
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        # a folder per connection: two processes that spill into one folder overwrite each other's blocks
        with self.temporary_folder() as spill:
            try:
                with connect() as connection:
                    self._configure(connection, spill, memory)
                    yield connection
            except duckdb.Error as error:
                raise WarehouseError(f"DuckDB ({self.path}): {error}") from error

    @staticmethod
    def _configure(connection: duckdb.DuckDBPyConnection, spill: Path, memory: str) -> None:
        # SET and not connect(config=..): TimeZone there asks for a download, and a second connection of this process
        # to the same file must have the same config
        for name, value in (
            ("memory_limit", memory),
            ("temp_directory", str(spill)),
            ("TimeZone", "UTC"),
            # each thread holds a row group or a page of its own (up to 100 MB each in files DuckDB wrote): with two,
            # freezing 600,000 rows of 640 bytes did not fit into 512 MB, with one it takes 250 MB (measured, 2.0.0)
            ("threads", "1"),
            ("autoinstall_known_extensions", "false"),
        ):
            text = value.replace("'", "''")
            # taking in a long log while opening may have begun to spill already, beside the file: it stays there
            with contextlib.suppress(duckdb.NotImplementedException):
                connection.execute(f"SET {name} = '{text}'").fetchall()
        # it would go to stdout; a notebook without ipywidgets can have none, and DuckDB 2.0 refuses to be told so there
        with contextlib.suppress(duckdb.InvalidInputException):
            connection.execute("SET enable_progress_bar = 'false'").fetchall()

    def _open_writable(self) -> duckdb.DuckDBPyConnection:
        is_new = not self.path.exists()
        connection = duckdb.connect(str(self.path))
        if is_new:
            self.path.chmod(0o600)  # DuckDB takes no empty file that was made so
        return connection

    def _open_readable(self) -> duckdb.DuckDBPyConnection:
        try:
            return duckdb.connect(str(self.path), read_only=True)
        except duckdb.ConnectionException:  # this process has it open for writing (a notebook): share that
            return duckdb.connect(str(self.path))

    def _patient(self, connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
        delay_s, waited_s, told = _FIRST_DELAY_S, 0.0, False
        while True:
            try:
                return connect()
            except duckdb.IOException as error:
                message = str(error).lower()
                if _LOCKED not in message and not (_NOT_MADE in message and waited_s < _MADE_WITHIN_S):
                    raise
                if waited_s >= self._lock_wait_s:
                    raise WarehouseError(self._busy(error, waited_s)) from error
                if waited_s >= _SILENT_S and not told:
                    told = True
                    _log.warning(
                        "the warehouse %s is held by another process (%s); waiting for it, up to %.0f s",
                        self.path, _holder(error), self._lock_wait_s,
                    )  # fmt: skip
            self._sleep(delay_s)
            waited_s += delay_s
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _busy(self, error: duckdb.Error, waited_s: float) -> str:
        return (
            f"the warehouse {self.path} is held by another process ({_holder(error)}); waited {waited_s:.0f} s. "
            "A DuckDB file belongs to one process at a time: end that program (or close its connection) and run the "
            "job again; nothing that was paid is lost"
        )


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Raises `WarehouseError` for a full disk, in words that say what to do. ``folder``: where it is written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise WarehouseError(
            f"the disk of {folder} is full; nothing that was paid is lost. Free some space and run the job again: "
            "it goes on where it stopped"
        ) from error


def _holder(error: duckdb.Error) -> str:
    return str(error).split("Conflicting lock is held in", 1)[-1].split(". ", 1)[0].strip()


def _is_out_of_memory(error: Exception) -> bool:
    """Also in the words of whoever streamed the rows: a row that fails on its way is an OSError since DuckDB 2.0."""
    cause = error.__cause__ if isinstance(error, WarehouseError) else error
    return isinstance(cause, _OUT_OF_MEMORY) or (isinstance(cause, OSError) and "out of memory" in str(cause).lower())


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Says what is wrong with a home in which nothing can be made."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise
        message = f"{folder} cannot be written: {error.strerror}; make that possible or set BATCH_LLM_HOME"
        raise WarehouseRefused(message) from error


def _sweep(folder: Path) -> None:
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process sweeps, too
            if time.time() - entry.stat().st_mtime < _STALE_AFTER_S:
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN").fetchall()
    complete = False
    try:
        yield
        complete = True
    finally:
        if not complete:
            with contextlib.suppress(duckdb.Error):  # the failure itself may have ended the transaction
                connection.execute("ROLLBACK").fetchall()
    connection.execute("COMMIT").fetchall()
