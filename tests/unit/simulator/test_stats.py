"""The statistics: who was paid twice, what was sent when."""

from batch_llm.simulator.faults import FaultKind
from batch_llm.simulator.stats import HISTORY_S, Stats


def test_a_prompt_answered_twice_is_a_duplicate_and_each_further_answer_counts() -> None:
    stats = Stats(0.0)
    for prompt in (1, 2, 2, 3, 3, 3):
        stats.attempt(prompt)
        stats.answer(prompt)
    assert stats.as_dict()["duplicates"] == {"answered_twice": 2, "extra_answers": 3, "prompts": 3}


def test_detail_shows_every_prompt() -> None:
    stats = Stats(0.0)
    stats.attempt(255)
    stats.attempt(255)
    stats.closed(255)
    stats.answer(255)
    assert "prompts" not in stats.as_dict()
    assert stats.as_dict(detail=True)["prompts"] == {
        "00000000000000ff": {"attempts": 2, "answered": 1, "closed_before_answer": 1}
    }


def test_accepted_requests_are_counted_per_second_since_the_start() -> None:
    stats = Stats(100.0)
    for at_s in (100.2, 100.9, 103.5):
        stats.accept(at_s)
    shown = stats.as_dict()
    assert (shown["per_second"], shown["per_second_from"], shown["accepted"]) == ([2, 0, 0, 1], 0, 3)


def test_the_first_and_the_last_accepted_request_are_told_since_the_start() -> None:
    stats = Stats(100.0)
    assert (stats.as_dict()["first_accepted_s"], stats.as_dict()["last_accepted_s"]) == (None, None)
    for at_s in (100.25, 101.0, 103.5):
        stats.accept(at_s)
    assert (stats.as_dict()["first_accepted_s"], stats.as_dict()["last_accepted_s"]) == (0.25, 3.5)
    stats.restart(200.0)
    stats.accept(201.5)
    assert (stats.as_dict()["first_accepted_s"], stats.as_dict()["last_accepted_s"]) == (1.5, 1.5)


def test_the_history_is_bounded() -> None:
    stats = Stats(0.0)
    stats.accept(0.0)
    stats.accept(HISTORY_S - 0.5)
    stats.accept(HISTORY_S + 1.5)
    assert (len(stats.as_dict()["per_second"]), stats.as_dict()["per_second_from"]) == (HISTORY_S, 2)
    stats.accept(1e9)
    assert (stats.as_dict()["per_second"], stats.as_dict()["per_second_from"]) == ([1], 10**9)


def test_a_reset_forgets_everything_but_what_is_in_flight() -> None:
    stats = Stats(0.0)
    stats.begin()
    stats.begin()
    stats.end()
    stats.attempt(1)
    stats.answer(1)
    stats.accept(1.0)
    stats.bill(10, 5)
    stats.fault(FaultKind.RESET)
    stats.rejected["too_large"] += 1
    stats.restart(5.0)
    assert stats.as_dict(detail=True) == Stats(5.0).as_dict(detail=True) | {"in_flight": 1, "max_in_flight": 1}
    assert stats.next_attempt(1) == 1
