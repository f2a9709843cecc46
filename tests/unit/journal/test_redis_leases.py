"""What leases say of a Redis that cannot be asked."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from batch_llm.errors import JournalUnreachable
from batch_llm.journal.redis_leases import RedisLeases


def test_a_url_that_cannot_be_read_is_not_shown(tmp_path: Path) -> None:
    """Its parts may be those of a password: not in the message, nor in a traceback."""
    leases = RedisLeases("redis://:half/word@localhost:6379/0", "memory://x", tmp_path)
    with pytest.raises(JournalUnreachable, match="BATCH_LLM_REDIS_URL") as caught:
        leases.is_held("r1/at_work", elsewhere=True)
    assert "half" not in "".join(traceback.format_exception(caught.value))
