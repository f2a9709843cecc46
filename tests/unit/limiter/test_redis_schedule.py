"""The schedule's script as it is put together; what it answers is in tests/contract/test_schedule.py."""

from __future__ import annotations

from collections import defaultdict

from batch_llm.limiter.redis_link import load_script
from batch_llm.limiter.redis_schedule import CONSTANT, PARTS


def test_a_constant_means_the_same_in_all_parts_of_the_script() -> None:
    """Their names are replaced in all of them at once."""
    values = defaultdict(set)
    for name, value in CONSTANT.findall(load_script("schedule", PARTS).text):
        values[name].add(value)
    assert len(values) > 50
    assert {name for name, each in values.items() if len(each) > 1} == set()
