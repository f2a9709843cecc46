"""What a watcher shows of a run."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from batch_llm.engine.events import (
    BY_USER,
    BudgetMark,
    Event,
    FallbackBegan,
    FallbackEnded,
    FirstFailure,
    PoolClosed,
    Progress,
    RunFinished,
    RunStarted,
    RunSummary,
    SlicePublished,
    Stalled,
    Stopping,
    Waiting,
)
from batch_llm.watching.board import Board, counted, remark

STARTED = RunStarted("tone", "tone-1", 4238, 8, resumed=False, output="beige_tone")
PUBLISHED = SlicePublished("tone-1", 0, 8, 500, 499, 1, 0, 100, 10, None)


def test_the_panel_holds_every_number_a_user_asks_for(progress: Callable[..., Progress]) -> None:
    board = Board("tone", Decimal(25))
    for event in (STARTED, PUBLISHED, progress(slices_done=1)):
        board.take(event)
    facts = {fact.label: fact.text for fact in board.facts()}
    assert facts == {
        "rows": "ok 1,190 · failed 10 · cached 5 · slices 1/8",
        "requests": "480 of 500 per minute",
        "tokens": "98,000 (no limit) per minute",
        "used": "1.2M tokens in, 12,345 out",
        "cost": "$0.5123 of $25.00",
        "retries": "3 (server_error 2, timeout 1)",
        "in flight": "45",
        "held by": "the limit on requests per minute",
        "left": "12 min 05 s",
    }
    assert (board.done, board.rows, board.title) == (1200, 4238, "tone-1 - running")


def test_one_line_says_the_same_for_logs(progress: Callable[..., Progress]) -> None:
    board = Board("tone")
    board.take(progress(cost_usd=None, eta_s=None))
    line = board.line()
    assert "\n" not in line
    for part in ("1,200/4,238 rows (28 %)", "480 of 500 per minute", "cost unknown", "server_error 2", "left -"):
        assert part in line


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (Waiting("another process"), "waiting"),
        (Stalled("the provider", 60.0), "stalled"),
        (Stopping("stopped by the user", 45), "draining"),
        (STARTED, "running"),
    ],
)
def test_the_state_follows_the_events(event: Event, state: str) -> None:
    board = Board("tone")
    board.take(event)
    assert board.state == state


def test_progress_ends_waiting_but_not_draining(progress: Callable[..., Progress]) -> None:
    board = Board("tone")
    for event in (Waiting("x"), progress()):
        board.take(event)
    assert board.state == "running"
    for event in (Stopping("x", 1), progress()):
        board.take(event)
    assert board.state == "draining"


def test_a_stall_is_seen_until_something_comes_back(progress: Callable[..., Progress]) -> None:
    """The engine tells how far the run is right after the stall, and each second of it."""
    board = Board("tone")
    for event in (STARTED, progress(), Stalled("the provider", 60.0), progress(stalled=True), progress(stalled=True)):
        board.take(event)
    assert board.state == "stalled"
    board.take(progress())
    assert board.state == "running"


def test_a_drain_that_stalls_is_a_drain(progress: Callable[..., Progress]) -> None:
    board = Board("tone")
    for event in (STARTED, Stopping(BY_USER, 3), Stalled("the provider", 60.0), progress(stalled=True), progress()):
        board.take(event)
        assert board.state in ("running", "draining")
    assert board.state == "draining"


def test_the_end_is_told_apart_from_a_stop(summary: Callable[..., RunSummary]) -> None:
    board = Board("tone")
    board.take(RunFinished(summary()))
    assert board.state == "finished"
    board.take(RunFinished(summary(stopped="budget")))
    assert board.state == "stopped"


def test_what_matters_is_said_at_once() -> None:
    said = {
        type(event): remark(event)
        for event in (
            STARTED,
            Waiting("another process is calling"),
            FirstFailure("timeout", "no answer\nwithin 60 s", 3, 17),
            Stalled("the provider's answers", 75.0),
            BudgetMark(80, Decimal(20), Decimal(25)),
            PoolClosed("west", "the key is refused"),
            FallbackBegan("azure/gpt-4.1-mini", "main: the key is refused"),
            FallbackEnded("openai/gpt-4.1-mini", 1_537),
            Stopping("stopped by the user", 45),
        )
    }
    assert said[RunStarted] == "tone-1: started, 4,238 rows in 8 slices, output beige_tone"
    assert said[Waiting] == "waiting: another process is calling"
    assert said[FirstFailure] == "first row that failed with timeout (slice 3, row 17): no answer within 60 s"
    assert said[Stalled] == "no answer for 1 min 15 s: the provider's answers"
    assert said[BudgetMark] == "80 % of the budget used: $20.00 of $25.00 spent"
    assert said[PoolClosed] == "pool west is not asked any more, the others go on: the key is refused"
    assert said[FallbackBegan] == "rows go to azure/gpt-4.1-mini now: main: the key is refused"
    assert said[FallbackEnded] == "rows go to openai/gpt-4.1-mini again; 1,537 calls went elsewhere"
    assert said[Stopping] == "draining (stopped by the user), 45 in flight; Ctrl-C again to stop at once"
    assert remark(PUBLISHED) is None


def test_a_budget_of_which_something_is_left_that_pays_for_nothing_is_used_up() -> None:
    told = remark(BudgetMark(100, Decimal("0.04"), Decimal("0.05")))
    words = "$0.0400 of $0.0500 spent, and what is left does not pay for the next row"
    assert told == f"the budget is used up: {words}"
    assert remark(BudgetMark(100, Decimal(1), Decimal(1))) == "100 % of the budget used: $1.00 of $1.00 spent"


def test_ctrl_c_is_named_only_to_who_pressed_it_and_while_it_would_end_something() -> None:
    assert remark(Stopping("the budget is used up", 45)) == "draining (the budget is used up), 45 in flight"
    assert remark(Stopping(BY_USER, 0)) == "draining (stopped by the user), 0 in flight"


def test_one_is_singular() -> None:
    assert "1 row in 1 slice, output" in str(remark(RunStarted("tone", "tone-1", 1, 1, False, "out")))


def test_all_is_said_only_of_all_rows_and_an_ended_run_is_held_by_nothing(
    progress: Callable[..., Progress], summary: Callable[..., RunSummary]
) -> None:
    board = Board("tone")
    board.take(progress(rows=503, ok=501, failed=0))
    assert "501/503 rows (99 %)" in board.line()
    assert "held by" in board.line() and "held by" in {fact.label for fact in board.facts()}
    board.take(progress(rows=503, ok=503, failed=0))
    board.take(RunFinished(summary()))
    assert board.line().startswith("tone: 503/503 rows (100 %)") and board.line().endswith("; finished")
    assert not {"held by", "left"} & {fact.label for fact in board.facts()}


def test_classes_are_counted_most_frequent_first() -> None:
    assert counted({}) == ""
    assert counted({"b": 1, "a": 1, "c": 1200}) == " (c 1,200, a 1, b 1)"
