"""While rows are asked the collector is called rarely; afterwards as before."""

from __future__ import annotations

import gc
import weakref

import pytest

from batch_llm.engine.collector import THRESHOLDS, rarely_collected


class Knot:
    """Garbage that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_what_stood_before_is_as_before_when_the_last_one_ends() -> None:
    before = gc.get_threshold()
    with rarely_collected():
        with rarely_collected():
            assert gc.get_threshold() == THRESHOLDS
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_an_error_ends_it_too() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), rarely_collected():
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_garbage_of_the_meantime_is_still_found() -> None:
    with rarely_collected():
        knots = [Knot() for _ in range(10)]
        gone = [weakref.ref(knot) for knot in knots]
        del knots
        filler = [[] for _ in range(2 * THRESHOLDS[0])]  # type: ignore[var-annotated]
        assert all(each() is None for each in gone)
        assert len(filler) == 2 * THRESHOLDS[0]
