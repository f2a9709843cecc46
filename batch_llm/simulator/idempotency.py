"""Answers that are given again when the same request comes under the same key.

Belongs here: remembering billed answers by Idempotency-Key, within bounds; what is refused about a key. Not here:
reading the header, billing (chat.py), putting an answer on the wire (delivery.py).

None of the large providers documents such a header for chat completions; some servers that speak OpenAI's API have it.
The rules here are the IETF's draft: the same key and request get the first answer again; with another request it is
422; while the first is still being answered it is 409. Which failures are remembered the draft leaves to the server:
here only what was billed, so that a 500 or a 429 may be tried again under its key.
Source: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header (07);
https://github.com/NousResearch/hermes-agent/pull/2903, https://github.com/tashfeenahmed/freellmapi/pull/1095 (servers);
openai 3.54.0, _base_client.py: its `_idempotency_header` is None, so that the SDK sends none (read 2026-11-28).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from batch_llm.simulator.refusals import key_in_use, key_reused

__all__ = ["HEADER", "StoredAnswer", "StoredAnswers"]

HEADER = "Idempotency-Key"
MOST_BYTES = 16 * 1024 * 1024  # of stored answers; the oldest give way
ENTRY_BYTES = 500  # what an entry takes beside its text


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that was billed."""

    request: bytes  # hash of the body it answers
    pieces: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """What it takes of the memory."""
        return ENTRY_BYTES + sum(map(len, self.pieces))


class StoredAnswers:
    """The latest billed answers by key."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """``most_bytes``: of all answers together."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: dict[str, StoredAnswer] = {}  # oldest first
        self._in_work: dict[str, bytes] = {}

    def begin(self, key: str, body: bytes) -> StoredAnswer | None:
        """The answer this request got before; None: answer it now, then `end`. Raises `Refused` (409, 422)."""
        request = _hash(body)
        stored = self._answers.get(key)
        if request != (stored.request if stored else self._in_work.get(key, request)):
            raise key_reused()
        if stored is None:
            if key in self._in_work:
                raise key_in_use()
            self._in_work[key] = request
        return stored

    def keep(self, key: str, pieces: list[bytes]) -> None:
        """The request in work under this key was billed for this answer."""
        answer = StoredAnswer(self._in_work[key], tuple(pieces))
        self._answers[key] = answer
        self._bytes += answer.size_bytes
        while self._bytes > self._most_bytes:
            oldest = next(iter(self._answers))
            self._bytes -= self._answers.pop(oldest).size_bytes

    def end(self, key: str) -> None:
        """The request under this key is no longer in work."""
        self._in_work.pop(key, None)


def _hash(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()
