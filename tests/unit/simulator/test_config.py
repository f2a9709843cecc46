"""The settings of a simulated provider."""

import pytest
from pydantic import ValidationError

from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.faults import FaultKind, mixed


def test_by_default_nothing_limits_delays_or_fails() -> None:
    config = SimulatorConfig()
    assert (config.requests_per_minute, config.tokens_per_minute, config.latency_median_s) == (None, None, 0)
    assert config.faults == {}


@pytest.mark.parametrize("share", ["0.05", 0.05])
def test_a_share_of_faults_is_spread_over_all_kinds(share: object) -> None:
    assert SimulatorConfig.model_validate({"faults": share}).faults == mixed(0.05)


def test_faults_can_be_named() -> None:
    assert SimulatorConfig.model_validate({"faults": {"reset": 0.5}}).faults == {FaultKind.RESET: 0.5}


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests_per_minute": 0},
        {"burst_s": 61},
        {"faults": {"rest": 0.5}},
        {"faults": {"reset": 1.5}},
        {"faults": {"reset": 0.7, "hang": 0.7}},
        {"faults": 2},
        {"debit": "later"},
        {"debit": "input_plus_max_tokens", "debit_at": "end"},
        {"day_resets_s": 86_400},
        {"output_tokens_per_minute": 0},
        {"rpm": 5},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulatorConfig.model_validate(wrong)


def test_the_key_is_not_shown() -> None:
    assert "opensesame" not in repr(SimulatorConfig.model_validate({"api_key": "opensesame"}))
