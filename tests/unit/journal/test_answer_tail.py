"""The newest entries of the answer index in memory, against a dict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.journal.answer_file import DamagedEntriesError
from batch_llm.journal.answer_tail import Tail, packed

keys = st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1])
batches = st.lists(st.tuples(st.integers(1, 2**40), st.lists(st.tuples(keys, st.integers(0, 2**48 - 1)))))


@given(looks=st.lists(batches, max_size=4))
def test_it_finds_what_was_said_last(looks: list[list[tuple[int, list[tuple[int, int]]]]]) -> None:
    tail, model = Tail(), dict[int, tuple[int, int]]()
    asked = [*range(-4, 5), -(2**63), 2**63 - 1]
    for look in looks:
        tail = tail.with_batches((slice_id, packed(*_columns(entries))) for slice_id, entries in look)
        for slice_id, entries in look:
            model.update({key: (slice_id, place) for key, place in entries})
        assert tail.find(asked) == {key: model[key] for key in asked if key in model}
        assert tail.find([]) == {}
        assert (len(tail), tail.keys()) == (len(model), sorted(model))
        assert [*tail.part(0, 3), *tail.part(3, 10)] == [(key, *model[key]) for key in sorted(model)]
        assert tail.count_without(7) == sum(place != 7 for _, place in model.values())


def test_a_batch_of_another_length_is_damaged() -> None:
    for cut in (1, 8, 15):
        with pytest.raises(DamagedEntriesError):
            Tail().with_batches([(1, packed([1, 2], [3, 4])[:-cut])])


def _columns(entries: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [key for key, _ in entries], [place for _, place in entries]
