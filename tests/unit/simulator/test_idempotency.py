"""Stored answers: whose they are, how many are kept."""

from __future__ import annotations

import pytest

from batch_llm.simulator.idempotency import ENTRY_BYTES, StoredAnswers
from batch_llm.simulator.refusals import Refused


def answered(stored: StoredAnswers, key: str, body: bytes = b"?", piece: bytes = b"!") -> None:
    assert stored.begin(key, body) is None
    stored.keep(key, [piece])
    stored.end(key)


def status(stored: StoredAnswers, key: str, body: bytes) -> int:
    with pytest.raises(Refused) as refused:
        stored.begin(key, body)
    return refused.value.status


def test_the_same_key_and_request_get_the_same_answer_and_another_request_none() -> None:
    stored = StoredAnswers()
    answered(stored, "a", b"x", b"one")
    answered(stored, "b", b"x", b"two")
    again = [stored.begin(key, b"x") for key in ("a", "b", "a")]
    assert [one.pieces for one in again if one] == [(b"one",), (b"two",), (b"one",)]
    assert status(stored, "a", b"y") == 422


def test_a_key_in_work_is_refused_until_its_request_ends() -> None:
    stored = StoredAnswers()
    assert stored.begin("a", b"x") is None
    assert (status(stored, "a", b"x"), status(stored, "a", b"y")) == (409, 422)
    stored.end("a")  # it failed: nothing was billed
    assert stored.begin("a", b"y") is None


def test_the_oldest_give_way_and_the_memory_is_bounded() -> None:
    stored = StoredAnswers(most_bytes=3 * (ENTRY_BYTES + 1))
    for number in range(1_000):
        answered(stored, str(number))
        assert len(stored._answers) <= 3 and not stored._in_work
        assert stored._bytes == sum(one.size_bytes for one in stored._answers.values())
    assert list(stored._answers) == ["997", "998", "999"]
    answered(stored, "huge", piece=b"x" * 10_000)
    assert not stored._answers and stored._bytes == 0
