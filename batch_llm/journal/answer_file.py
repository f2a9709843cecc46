"""The file of the answer index: one SQLite database of a home, used by many processes and threads at once.

Belongs here: opening it, transactions, what happens when it is damaged, gone or cannot be written. Not here: what is
stored in it (answer_entries.py), what it is for (answer_index.py).

Nothing in it is worth stopping for: everything can be had again from the journals. So a damaged file is set aside as
``<name>.damaged`` (one is kept) and a new one is begun; whoever still has the old one open goes over to the new one
with its next transaction.

Write-ahead log, `synchronous=NORMAL`: a process that is killed loses nothing and damages nothing. A crash of the
machine may lose the last transactions; what is lost is asked for in the journals again, or, at worst, paid again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from batch_llm.errors import JournalBusy, JournalError
from batch_llm.folders import private_folder
from batch_llm.journal.locks import locked, passing_lock

__all__ = ["LAYOUT", "AnswerFile", "DamagedEntriesError"]

Result = TypeVar("Result")

LAYOUT = 1  # of the tables, `PRAGMA user_version`; a file of another layout is set aside
WAIT_S = 20.0  # for another process's transaction; each takes milliseconds
PAGE_BYTES = 1024  # where each answer touches a page of its own (ten million), a quarter cheaper than the usual 4096
PAGE_CACHE_KIB = 4096
CHECKPOINT_PAGES = 16_000  # 16 MB of log: the more, the fewer pages are written twice
DAMAGED_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
MISSING = ("no such table", "no such column")  # somebody emptied the file, or it is another program's
BUSY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
PRIMARY_CODE = 0xFF  # of SQLite's error codes, without the detail


_files: weakref.WeakSet[AnswerFile] = weakref.WeakSet()
_left_behind: list[sqlite3.Connection | None] = []  # of a parent process: a child must neither use nor close them


class DamagedEntriesError(sqlite3.DatabaseError):
    """The file can be read, and holds what this version of batch_llm never wrote."""


class AnswerFile:
    """The database and this process's one connection to it; safe to use from threads, and after a fork."""

    def __init__(self, path: Path, schema: str, warn: Callable[[str], None]) -> None:
        """Opens nothing yet. ``schema``: SQL that makes the tables; ``warn`` hears when a file is set aside."""
        self.path = path
        self._schema = schema
        self._warn = warn
        self._turn = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # of the open file: device, inode
        _files.add(self)

    def transaction(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do something alone with the database, wholly or not at all; a connection never seen before is another file.

        Raises `JournalError` when the file cannot be used. A damaged one is set aside and the action repeated.
        """
        try:
            try:
                return self._once(action)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._set_aside(str(error))
                return self._once(action)
        except (sqlite3.Error, OSError) as error:
            raise _journal_error(self.path, error) from error

    @contextmanager
    def only_one(self, purpose: str) -> Iterator[bool]:
        """Held by one process of all; False when another one has it."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._beside(purpose), wait=False))
            except BlockingIOError:
                yield False
            except OSError as error:
                raise _journal_error(self.path, error) from error
            else:
                yield True

    def erase_traces(self) -> None:
        """Leave nothing of what was deleted: empty the log, drop a file that was set aside. Raises `JournalError`."""
        try:
            self._beside("damaged").unlink(missing_ok=True)
            if not self.exists():
                return
            with self._turn:
                busy = self._open().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            raise _journal_error(self.path, error) from error
        if busy:
            raise JournalBusy(f"{self.path}: in use by another process for {WAIT_S:g} s; nothing is lost, try again")

    def exists(self) -> bool:
        """Whether there is such a file."""
        return _identity(self.path) is not None

    def size_bytes(self) -> int:
        """Of the database and its log; 0 when there is none."""
        total = 0
        for path in (self.path, self._log("wal")):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def close(self) -> None:
        """Let go of the file; the next transaction opens it again."""
        with self._turn:
            self._close()

    def forked(self) -> None:
        """This is a child process now: what the parent has open is not ours."""
        _left_behind.append(self._connection)
        self._connection = None
        self._turn = threading.RLock()  # another thread of the parent may have held it

    def _once(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._turn:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")  # the write lock at once: it is never upgraded, so never refused
            with ExitStack() as failed:
                failed.callback(_roll_back, connection)
                result = action(connection)
                connection.execute("COMMIT")
                failed.pop_all()
            return result

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that stands at the path now."""
        if self._connection is not None and self._identity == _identity(self.path):
            return self._connection
        self._close()
        private_folder(self.path.parent)
        with passing_lock(self._beside("opening")):
            with suppress(FileExistsError):  # never opened but to make it: closing it would give SQLite's locks back
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._identity = _identity(self.path)
            self._connection = self._connected()
        return self._connection

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        with ExitStack() as failed:
            failed.callback(connection.close)
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
            if layout not in (0, LAYOUT):
                raise DamagedEntriesError(f"its layout is {layout}, this version of batch_llm knows {LAYOUT}")
            for setting, value in _SETTINGS:
                connection.execute(f"PRAGMA {setting}={value}").fetchall()
            if layout != LAYOUT:
                connection.executescript(f"BEGIN;{self._schema};PRAGMA user_version={LAYOUT};COMMIT")
            failed.pop_all()
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # nothing is open to be lost
                connection.close()

    def _set_aside(self, why: str) -> None:
        with self._turn:
            damaged = self._identity
            self._close()
            with passing_lock(self._beside("opening")):
                if damaged is None or damaged != _identity(self.path):
                    return  # somebody else did it
                self.path.replace(self._beside("damaged"))
                for log in ("wal", "shm"):
                    self._log(log).unlink(missing_ok=True)
        self._warn(
            f"{self.path} cannot be read ({why}); it is set aside as {self._beside('damaged').name} and begun anew. "
            "No answer is lost: it only says which answers can be used again"
        )

    def _beside(self, purpose: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{purpose}")

    def _log(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}-{name}")


_SETTINGS = (
    ("page_size", PAGE_BYTES),  # before the log is turned on
    ("journal_mode", "WAL"),
    ("synchronous", "NORMAL"),
    ("cache_size", -PAGE_CACHE_KIB),
    ("secure_delete", "ON"),
    ("wal_autocheckpoint", CHECKPOINT_PAGES),
    ("journal_size_limit", 2 * CHECKPOINT_PAGES * PAGE_BYTES),
)


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):  # a full disk ends the transaction by itself
        connection.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_damage(error: Exception) -> bool:
    """A fault of what is in the file, not of the disk or of somebody who has it locked."""
    if isinstance(error, DamagedEntriesError) or str(error).startswith(MISSING):
        return True
    return _code(error) in DAMAGED_CODES


def _journal_error(path: Path, error: Exception) -> JournalError:
    if _code(error) in BUSY_CODES:
        return JournalBusy(f"{path}: another process had it locked for more than {WAIT_S:g} s")
    return JournalError(f"{path}: {str(error) or type(error).__name__}")


def _code(error: Exception) -> int | None:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & PRIMARY_CODE


def _after_fork() -> None:
    for file in _files:
        file.forked()


os.register_at_fork(after_in_child=_after_fork)
