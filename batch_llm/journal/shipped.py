"""A slice's journal that is kept in an object store as well.

Belongs here: shipping what is new, in time, and what happens when that fails. Not here: objects (slice_objects.py),
leases (redis_leases.py).

An entry is in the local file before `append` returns: kill -9 loses nothing on this machine. It is in the store at the
latest after `SHIP_ENTRIES` entries or about a second: so much is lost at most when the machine is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from batch_llm.errors import JournalBusy, JournalError, JournalUnreachable
from batch_llm.journal.base import Entry, EntryKind, Journal
from batch_llm.journal.slice_objects import SliceObjects

__all__ = ["ShippedJournal", "ShippingTimes", "WritersLease"]

SHIP_ENTRIES: Final = 256
LOOK_S: Final = 1.0  # whether the shipping thread still lives
LOG = logging.getLogger("batch_llm.journal")


class ShippingTimes:
    """How long what, in seconds."""

    def __init__(self, *, ship_after_s: float = 0.7, patience_s: float = 60.0, first_wait_s: float = 0.5) -> None:
        """``ship_after_s``: an upload takes a while, so that it is less than the second that is promised."""
        self.ship_after_s = ship_after_s
        self.patience_s = patience_s  # a store that is away so long stops the run
        self.first_wait_s = first_wait_s  # after a failed upload; doubled each time
        self.longest_wait_s = 10.0


class WritersLease(Protocol):
    """The right to write, and the number that tells this writer's segments from those of earlier ones."""

    epoch: int

    def check(self) -> None:
        """Raises `JournalError` when it is not held any more, or nobody knows."""
        ...

    def release(self) -> None:
        """Let others in."""
        ...


class ShippedJournal:
    """A local journal whose bytes follow into the store; one writer on all machines."""

    def __init__(
        self, local: Journal, objects: SliceObjects, lease: WritersLease, times: ShippingTimes | None = None
    ) -> None:
        """``local``: the journal at ``objects.path``, brought up to date and open; closed and released with this."""
        self._local = local
        self._objects = objects
        self._lease = lease
        self._times = times or ShippingTimes()
        self._shipped = objects.shipped().size
        self._changed = threading.Condition()
        self._waiting = 0 if local.size() == self._shipped else SHIP_ENTRIES  # entries appended since the last upload
        self._since = time.monotonic()  # when the first of them came
        self._failing_since: float | None = None
        self._failure: JournalError | None = None
        self._asked = False  # somebody waits for what is there
        self._closing = False
        self._closed = False
        self._shipper = threading.Thread(target=self._ship_in_time, name=f"ship {objects.path.stem}", daemon=True)
        self._shipper.start()

    def append(self, entry: Entry) -> int:
        """See `Journal.append`; the entry is in the local file, whatever the store does."""
        if entry.kind is EntryKind.SENT and self.failure is not None:
            raise self.failure
        place = self._local.append(entry)
        with self._changed:
            self._waiting += 1
            if self._waiting == 1:
                self._since = time.monotonic()
            if self._waiting in (1, SHIP_ENTRIES):
                self._changed.notify_all()
        return place

    @property
    def failure(self) -> JournalError | None:
        """See `Journal.failure`."""
        return self._failure or self._local.failure

    def replay(self) -> Iterator[Entry]:
        """See `Journal.replay`."""
        return self._local.replay()

    def entries_at(self, places: Sequence[int]) -> list[Entry]:
        """See `Journal.entries_at`."""
        return self._local.entries_at(places)

    def size(self) -> int:
        """See `Journal.size`."""
        return self._local.size()

    def sync(self) -> None:
        """Bring what was appended to the disk and into the store; while the store fails, only to the disk."""
        self._local.sync()
        self._wait_until_shipped()

    def ship(self) -> None:
        """Bring what was appended into the store. Raises `JournalError` when it does not take it for too long."""
        self._local.sync()
        if not self._wait_until_shipped(patient=True):
            raise self._failure or JournalUnreachable(self._told("does not take what is new"))

    def compact(self) -> None:
        """One object in the place of many; all is shipped. Raises `JournalError`."""
        self._lease.check()
        self._objects.compact(self._local.size(), self._lease.epoch)

    def close(self) -> None:
        """Ship all, then let another writer in; closing twice is harmless.

        Raises `JournalError` when the store does not take the rest: it stays on this machine, and the next writer here
        ships it.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = self._closing = True
            self._changed.notify_all()
        self._shipper.join()
        rest = self._local.size() - self._shipped
        self._local.close()
        self._lease.release()
        if rest:
            raise self._failure or JournalUnreachable(self._told("did not take the rest"))

    def _told(self, what: str) -> str:
        return (
            f"the journal's store {what} of {self._objects.path.parent.parent.name}, slice {self._objects.path.stem}. "
            "Every answer is stored on this machine; run the job again here: it ships them and goes on"
        )

    def _wait_until_shipped(self, *, patient: bool = False) -> bool:
        """Wait for the store to have what is there now; False when it fails, ``patient``: for too long."""
        wanted = self._local.size()
        with self._changed:
            self._asked = True
            self._changed.notify_all()
            while not self._changed.wait_for(lambda: self._shipped >= wanted or self._fails(patient), LOOK_S):
                pass
            return self._shipped >= wanted

    def _fails(self, patient: bool) -> bool:
        if self._failure is not None or not self._shipper.is_alive():
            return True
        return self._failing_since is not None and not patient

    # -- the thread ------------------------------------------------------------------------------------------------

    def _ship_in_time(self) -> None:
        wait_s = self._times.first_wait_s
        while self._until_due():
            try:
                self._ship_all()
            except JournalBusy as lost:
                self._end(lost)
                return
            except OSError as error:  # of this machine: the store's come as JournalError
                self._end(JournalError(f"cannot ship {self._objects.path}: {error}"))
                return
            except JournalError as error:
                if not self._bear(error, wait_s):
                    return
                wait_s = min(2 * wait_s, self._times.longest_wait_s)
            else:
                wait_s = self._times.first_wait_s
        with self._changed:
            self._changed.notify_all()

    def _until_due(self) -> bool:
        """Wait until something is to be shipped; False when all is and the journal closes."""
        with self._changed:
            while not self._closing and not self._asked and self._waiting < SHIP_ENTRIES:
                left_s = self._since + self._times.ship_after_s - time.monotonic() if self._waiting else None
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            self._asked = False
            return not self._closing or self._shipped < self._local.size()

    def _ship_all(self) -> None:
        with self._changed:
            self._waiting = 0
        end = self._local.size()
        while self._shipped < end:
            self._lease.check()
            self._shipped = self._objects.upload(self._shipped, end, self._lease.epoch)
        with self._changed:
            if self._failing_since is not None:
                LOG.warning("the journal's store takes answers again")
            self._failing_since = self._failure = None
            self._changed.notify_all()

    def _bear(self, error: JournalError, wait_s: float) -> bool:
        """Wait before the next try; False when it is closing and there is no hope."""
        now = time.monotonic()
        with self._changed:
            self._waiting = max(self._waiting, 1)
            if self._failing_since is None:
                self._failing_since = now
                LOG.warning("%s. Answers are kept on this machine meanwhile, and shipped later", error)
            failed_for_s = now - self._failing_since
            if failed_for_s >= self._times.patience_s:
                self._failure = JournalUnreachable(f"{error}; tried for {failed_for_s:.0f} s. " + self._told("is away"))
            self._changed.notify_all()
            if self._failure is not None and self._closing:
                return False
            self._changed.wait_for(lambda: self._closing and self._failure is not None, wait_s)
        return True

    def _end(self, failure: JournalError) -> None:
        with self._changed:
            self._failure = failure
            self._changed.notify_all()
