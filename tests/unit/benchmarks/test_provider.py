"""The simulated provider of the benchmarks counts strictly, and a case finds its figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch_llm.limiter.base import Cost, Limits
from benchmarks.limiter.case import Case, Provider
from benchmarks.limiter.cases import CASES
from benchmarks.limiter.provider import CELLS, MOST_COUNTERS, LiveProvider, shared_provider
from benchmarks.limiter.records import RecordFile, Sent, read_records

HOUR_S = 3600.0
ROW = Cost(1, 0)


def case(limits: Limits, bucket_s: float = 1.0) -> Case:
    return replace(CASES[0], limits=limits, provider=Provider(bucket_s=bucket_s, answers_429=True))


def provider(limits: Limits, bucket_s: float = 1.0) -> LiveProvider:
    return LiveProvider(case(limits, bucket_s), [0.0] * CELLS * MOST_COUNTERS)


def test_a_bucket_takes_what_it_holds_and_then_what_leaks() -> None:
    asked = provider(Limits("p", requests_per_minute=600))
    assert [asked.admit(100.0, ROW) for _ in range(11)] == [None] * 10 + ["requests"]
    assert asked.admit(100.099, ROW) == "requests"
    assert asked.admit(100.1, ROW) is None


def test_after_the_cut_both_speed_and_depth_are_smaller() -> None:
    asked = provider(Limits("p", requests_per_minute=600))
    asked.cut_at_s = 50.0
    assert [asked.admit(60.0, ROW) for _ in range(8)] == [None] * 7 + ["requests"]
    assert asked.admit(60.1, ROW) == "requests"
    assert asked.admit(60.2, ROW) is None


def test_a_fixed_day_begins_anew_at_its_reset() -> None:
    """Midnight in California is 08:00 UTC in winter."""
    asked = provider(Limits("p", requests_per_day=3, day_resets="America/Los_Angeles"))
    assert [asked.admit(7 * HOUR_S + n, ROW) for n in range(4)] == [None] * 3 + ["requests_per_day"]
    assert asked.admit(8 * HOUR_S, ROW) is None


def test_what_is_debited_at_first_follows_the_rule_and_is_corrected_at_the_end() -> None:
    cost, actual = Cost(100, 50, 500), Cost(100, 20)
    capped = provider(Limits("p", tokens_per_minute=60_000, debit="input_plus_max_tokens_then_corrected"))
    assert [capped.admit(1.0, cost), capped.admit(1.0, cost)] == [None, "tokens"]
    capped.answer(1.0, cost, actual)
    assert capped.admit(1.0, cost) is None
    later = provider(Limits("p", tokens_per_minute=60_000))
    assert [later.admit(1.0, cost) for _ in range(11)] == [None] * 10 + ["tokens"]
    for _ in range(10):
        later.answer(1.0, cost, actual)
    assert later.admit(1.1, cost) == "tokens"  # 1,200 counted, 100 leaked
    assert later.admit(1.3, cost) is None


def test_processes_that_open_one_file_share_a_provider(tmp_path: Path) -> None:
    limits = case(Limits("p", requests_per_minute=120))
    first, second = shared_provider(limits, tmp_path / "cells"), shared_provider(limits, tmp_path / "cells")
    assert [first.admit(5.0, ROW), second.admit(5.0, ROW), first.admit(5.0, ROW)] == [None, None, "requests"]


def test_records_are_read_back_by_time_up_to_where_a_killed_writer_came(tmp_path: Path) -> None:
    with RecordFile(tmp_path / "whole", 10) as whole:
        whole.write(Sent(2.0, 0, 1, 3, 1500.0))
    killed = RecordFile(tmp_path / "killed", 10)
    killed.write(Sent(1.0, 1, 0, 1, 500.0, 1))
    found = read_records([tmp_path / "whole", tmp_path / "killed", tmp_path / "never started"])
    assert found == [Sent(1.0, 1, 0, 1, 500.0, 1), Sent(2.0, 0, 1, 3, 1500.0, 0)]
    killed.__exit__(None, None, None)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_loads_name_workers_that_exist(each: Case) -> None:
    assert all(number < each.workers for load in each.loads for number in load.workers or ())
    assert all(0 <= load.during[0] < load.during[1] <= 1 for load in each.loads)


def test_names_are_unique() -> None:
    assert len({each.name for each in CASES}) == len(CASES)
