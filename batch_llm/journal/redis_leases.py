"""Leases between machines, in Redis: who writes a slice, who works on a run.

Belongs here: taking, keeping and giving back a lease. Not here: what a lease stands for (shared_runs.py), locks within
a machine (locks.py). A lease ends by itself `TTL_S` after its holder was last heard of; a lock of this machine, held
besides, lets the next process on the same machine in at once.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from batch_llm.errors import JournalBusy, JournalUnreachable
from batch_llm.folders import private_folder

__all__ = ["Lease", "RedisLeases", "machine_of"]

TTL_S: Final = 30.0
MARGIN_S: Final = 2.0  # before its end a lease is not trusted any more: clocks differ, an upload takes a while
CONNECT_TIMEOUT_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 2.0
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
SCRIPT: Final = (files("batch_llm.journal") / "lua" / "lease.lua").read_text(encoding="utf-8")


class Lease:
    """One lease that is held, kept up by `RedisLeases`.

    Attributes:
        epoch: A number higher than that of everybody who had it alone before; see `advance`.
    """

    def __init__(self, leases: RedisLeases, name: str, member: str, epoch: int) -> None:
        """Made by `RedisLeases.acquire`."""
        self.name = name
        self.epoch = epoch
        self._leases = leases
        self._member = member
        self._sure_until = 0.0
        self._lost = False

    def check(self) -> None:
        """See that it is still held. Raises `JournalBusy` when it was lost, `JournalUnreachable` when nobody knows."""
        if not self._lost and time.monotonic() > self._sure_until - MARGIN_S:
            self.renew()
        if self._lost:
            raise JournalBusy(
                f"this process was not heard of for {self._leases.ttl_s:g} s and lost {self.name} to another one. "
                "What it was paid for is stored on this machine and joins the journal when a run starts here again"
            )

    def renew(self) -> None:
        """Hold it for another `TTL_S`. Raises `JournalUnreachable`."""
        asked_at = time.monotonic()
        if self._leases.ask("renew", self.name, self._member, self.epoch) == 1:
            self._sure_until = asked_at + self._leases.ttl_s
        else:
            self._lost = True

    def advance(self, epoch: int) -> None:
        """Be ``epoch`` if that is higher: Redis may have forgotten how far the numbers were."""
        if epoch > self.epoch:
            self._leases.ask("advance", self.name, self._member, epoch)
            self.epoch = epoch

    def release(self) -> None:
        """Let others in; harmless when it was lost, and when Redis does not answer: its time runs out."""
        self._leases.drop(self)
        try:
            self._leases.ask("release", self.name, self._member, 0)
        except JournalUnreachable:
            pass


class RedisLeases:
    """All leases of one process on one store. A thread keeps up what is held; nothing is open while nothing is."""

    def __init__(self, url: str, space: str, folder: Path, *, ttl_s: float = TTL_S) -> None:
        """``space``: the store these leases are about; ``folder``: where this machine's locks are, see `machine_of`."""
        self.ttl_s = ttl_s
        self._url = url
        self._prefix = f"batch_llm:lease:{hashlib.blake2b(space.encode(), digest_size=8).hexdigest()}"
        self._folder = folder
        self._held: set[Lease] = set()
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None

    @cached_property
    def _machine(self) -> str:
        return machine_of(self._folder)

    def acquire(self, name: str, *, shared: bool = False) -> Lease | None:
        """Take a lease, None while another machine has it; the caller holds this machine's lock of the same meaning.

        Raises `JournalUnreachable`.
        """
        member = f"{'s' if shared else 'x'}:{self._machine}:{secrets.token_hex(8)}"
        taken, said = self.ask("acquire", name, member, 0)
        if not taken:
            return None
        lease = Lease(self, name, member, int(said))
        lease.renew()
        with self._changed:
            self._held.add(lease)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._keeper.start()
        return lease

    def is_held(self, name: str, *, elsewhere: bool) -> bool:
        """Whether anybody has it; ``elsewhere``: on another machine than this."""
        members = [each.decode().split(":") for each in self.ask("holders", name, "", 0)]
        return any(not elsewhere or machine != self._machine for _, machine, _ in members)

    def drop(self, lease: Lease) -> None:
        """Keep it up no longer."""
        with self._changed:
            self._held.discard(lease)
            self._changed.notify_all()

    def ask(self, operation: str, name: str, member: str, epoch: int) -> Any:
        """Run the script. Raises `JournalUnreachable`."""
        keys = (f"{self._prefix}:{{{name}}}:holders", f"{self._prefix}:{{{name}}}:epoch")
        retry = Retry(ConstantBackoff(0.05), 1)
        try:
            with Redis.from_url(
                self._url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=ANSWER_TIMEOUT_S, retry=retry
            ) as redis:
                return redis.eval(SCRIPT, 2, *keys, operation, member, str(int(self.ttl_s * 1000)), str(epoch))
        except ValueError:  # of the URL, and quotes it
            raise JournalUnreachable(
                "BATCH_LLM_REDIS_URL (it is not shown: it may hold a password) is no URL that Redis's client can read"
            ) from None
        except (RedisError, OSError) as error:
            raise JournalUnreachable(
                f"the Redis of BATCH_LLM_REDIS_URL, which says who writes which journal, cannot be asked: {error}"
            ) from error

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._held:
                    self._changed.wait(self.ttl_s / 3)
                if not self._held:
                    self._keeper = None
                    return
                held = list(self._held)
            for lease in held:
                try:
                    lease.renew()
                except JournalUnreachable:
                    pass  # `check` tells who writes; the next turn tries again


def machine_of(folder: Path) -> str:
    """A name for the machine and the home on it: the same for all processes that see each other's file locks."""
    private_folder(folder)
    boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
    about = os.stat(folder)
    told = f"{boot} {socket.gethostname()} {about.st_dev} {about.st_ino}"
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
