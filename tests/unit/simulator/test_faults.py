"""Faults: drawn by seed, prompt and attempt, in the shares that were asked for."""

from collections import Counter

import pytest

from batch_llm.simulator.faults import MIXED_SHARES, FaultKind, FaultPlan, mixed, parse_faults


def test_the_same_seed_prompt_and_attempt_always_draw_the_same() -> None:
    shares = mixed(0.5)
    first = [FaultPlan(7, shares).draw(prompt, attempt) for prompt in range(200) for attempt in (1, 2)]
    again = [FaultPlan(7, shares).draw(prompt, attempt) for prompt in range(200) for attempt in (1, 2)]
    assert first == again


def test_another_seed_or_another_attempt_draws_anew() -> None:
    plan = FaultPlan(7, mixed(0.5))
    first = [plan.draw(prompt, 1)[0] for prompt in range(200)]
    assert first != [plan.draw(prompt, 2)[0] for prompt in range(200)]
    assert first != [FaultPlan(8, mixed(0.5)).draw(prompt, 1)[0] for prompt in range(200)]


def test_the_shares_come_out_as_asked() -> None:
    plan = FaultPlan(0, {FaultKind.RESET: 0.2, FaultKind.EMPTY: 0.1})
    drawn = Counter(plan.draw(prompt, 1)[0] for prompt in range(10_000))
    assert set(drawn) == {None, FaultKind.RESET, FaultKind.EMPTY}
    assert drawn[FaultKind.RESET] == pytest.approx(2_000, rel=0.1)
    assert drawn[FaultKind.EMPTY] == pytest.approx(1_000, rel=0.15)


def test_without_faults_nothing_goes_wrong() -> None:
    assert FaultPlan(0, {FaultKind.RESET: 0.0}).draw(1, 1) == (None, 0)


def test_a_mix_has_every_kind_and_adds_up() -> None:
    assert set(MIXED_SHARES) == set(FaultKind)
    assert sum(mixed(0.05).values()) == pytest.approx(0.05)


def test_faults_are_read_from_a_share_or_from_pairs() -> None:
    assert parse_faults("0.05") == mixed(0.05)
    assert parse_faults("reset=0.02, hang=0.01") == {FaultKind.RESET: 0.02, FaultKind.HANG: 0.01}


@pytest.mark.parametrize("text", ["much", "rest=0.1", "1.5", "reset=a lot"])
def test_faults_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fault|share|convert"):
        parse_faults(text)


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'rest'; known: server_error, .*usage"):
        parse_faults("rest=0.1")
