"""Random numbers from a few bytes."""

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from batch_llm.simulator.draws import Draw, lognormal, words


@given(st.integers(0, 2**64 - 1), st.integers(1, 10**6))
def test_numbers_stay_below_their_end_and_repeat_with_their_start(start: int, end: int) -> None:
    numbers = [Draw(start).below(end) for _ in range(2)]
    assert numbers[0] == numbers[1]
    assert 0 <= numbers[0] < end


def test_lognormal_has_its_median_and_sigma() -> None:
    draw = Draw(3)
    logs = [math.log(lognormal(draw, 0.8, 0.5)) for _ in range(4_000)]
    assert abs(statistics.median(logs) - math.log(0.8)) < 0.05
    assert abs(statistics.stdev(logs) - 0.5) < 0.03


def test_without_sigma_every_number_is_the_median() -> None:
    assert lognormal(Draw(1), 0.8, 0) == 0.8


@given(st.integers(0, 2**64 - 1), st.integers(0, 200_000))
def test_words_have_exactly_the_length_asked_for(start: int, length: int) -> None:
    text = words(Draw(start), length)
    assert len(text) == length
    assert text == text.strip()
    assert text.isascii()
