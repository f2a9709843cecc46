"""Answers that were cut short: whose cap it was decides."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.engine.caps import Cut, NextTry, after_cut

SAME = NextTry(100)
UNCAPPED = NextTry(None)


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        # a declared cap: the user's
        (Cut(100, False, 100, 1, 1, 2), None),
        (Cut(100, False, 101, 1, 1, 2), None),  # some servers count one more
        (Cut(100, False, 40, 1, 1, 2), SAME),
        (Cut(100, False, 40, 2, 2, 2), SAME),
        (Cut(100, False, 40, 3, 3, 2), None),
        (Cut(100, False, None, 1, 1, 2), None),  # the usage is unknown: what was cut met the cap that was sent
        (Cut(100, False, 40, 1, 1, 0), None),
        # the automatic one: ours
        (Cut(100, True, 100, 1, 1, 2), UNCAPPED),
        (Cut(100, True, 100, 1, 1, 0), UNCAPPED),  # the job allows no re-asks; but the cap was not the job's
        (Cut(100, True, None, 1, 1, 0), UNCAPPED),
        (Cut(100, True, 40, 1, 1, 2), UNCAPPED),
        (Cut(100, True, 40, 1, 1, 0), None),
        # none
        (Cut(None, True, 9_000, 1, 1, 2), UNCAPPED),
        (Cut(None, False, 9_000, 1, 1, 1), UNCAPPED),
        (Cut(None, False, 9_000, 1, 1, 0), None),
        (Cut(None, False, 9_000, 2, 2, 10), None),
        (Cut(None, True, 9_000, 2, 2, 10), None),  # cut at the automatic cap, then without one
        (Cut(None, False, 9_000, 1, 2, 2), UNCAPPED),  # another trouble came first
    ],
)
def test_what_follows_from_a_cut(cut: Cut, expected: NextTry | None) -> None:
    assert after_cut(cut) == expected


def test_a_cap_is_never_lowered_and_a_declared_one_never_raised() -> None:
    for automatic, tokens, cuts, re_asks in product((True, False), (None, 10, 100), (1, 2, 3), (0, 1, 5)):
        following = after_cut(Cut(100, automatic, tokens, cuts, cuts, re_asks))
        assert following is None or following.cap == (None if automatic else 100)


@given(st.integers(1, 1000) | st.none(), st.booleans(), st.integers(0, 1000) | st.none(), st.integers(0, 10))
def test_an_answer_that_is_always_cut_ends_as_failed(
    cap: int | None, automatic: bool, tokens: int | None, re_asks: int
) -> None:
    """However the cap is made, a row is never asked for ever; once more than the job allows, at most."""
    for tries in range(1, 20):
        following = after_cut(Cut(cap, automatic, tokens, tries, tries, re_asks))
        if following is None:
            assert tries <= max(re_asks, 1) + 1
            return
        cap = following.cap
    pytest.fail("asked for ever")
