"""Whether the store of journals that machines share can be used: what `doctor` says of ``BATCH_LLM_JOURNAL=s3://..``.

Belongs here: trying the store out with one object. Not here: the folder on this machine (doctor.py), Redis itself
(doctor_services.py).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from batch_llm.cli.doctor_services import Check, Verdict
from batch_llm.errors import BatchLLMError, JournalError

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.journal.object_store import ObjectStore

__all__ = ["check_store"]

FOLDER = "doctor"


def check_store(settings: Settings, url: str) -> Check:
    """Write, read, list and delete one object; and the Redis that decides between machines is named."""
    from batch_llm.journal.object_store import ObjectStore
    from batch_llm.wiring import open_store

    try:
        open_store(settings)  # refuses a shared journal without a shared Redis
        _try_out(ObjectStore(url))
    except BatchLLMError as error:
        return Check("journal", Verdict.FAILED, str(error))
    return Check("journal", Verdict.OK, f"{url}: can be written, read, listed and deleted; leases are in Redis")


def _try_out(store: ObjectStore) -> None:
    """Raises `JournalError` when something is missing."""
    name, data = f"{FOLDER}/{secrets.token_hex(8)}", secrets.token_bytes(16)
    store.put(name, data)
    try:
        if store.get(name) != data:
            raise JournalError(f"{store.url}: an object that was written reads otherwise; is it eventually consistent?")
        if name not in store.names(FOLDER):
            raise JournalError(f"{store.url}: an object that was written is not listed; is it eventually consistent?")
    finally:
        store.delete([name])
    if store.get(name) is not None:
        raise JournalError(f"{store.url}: an object that was deleted is still there")
