"""What the simulated model says, and how long."""

import statistics
from typing import Any

import orjson
import pytest

from batch_llm.simulator.answers import halved, write_answer
from batch_llm.simulator.chat_request import ChatRequest, read_chat
from batch_llm.simulator.config import SimulatorConfig


def _ask(text: str = "hello", config: SimulatorConfig | None = None, **extra: Any) -> ChatRequest:
    body = {"model": "simulator/small", "messages": [{"role": "user", "content": text}], **extra}
    return read_chat(orjson.dumps(body), config or SimulatorConfig())


def test_the_same_prompt_gets_the_same_answer_from_any_simulator() -> None:
    assert write_answer(_ask(), SimulatorConfig()) == write_answer(_ask(), SimulatorConfig())


def test_prompt_model_and_both_seeds_each_change_the_answer() -> None:
    config = SimulatorConfig(answer_tokens_sigma=0)
    other_seed = SimulatorConfig(answer_tokens_sigma=0, seed=1)
    asked = [_ask(), _ask("hallo"), _ask(model="simulator/large"), _ask(seed=3), _ask(config=other_seed)]
    assert len({write_answer(request, config).text for request in asked}) == 5


def test_parameters_that_only_steer_sampling_do_not_change_the_answer() -> None:
    assert write_answer(_ask(temperature=0.3), SimulatorConfig()) == write_answer(_ask(), SimulatorConfig())


def test_free_text_says_that_it_is_simulated() -> None:
    assert write_answer(_ask(), SimulatorConfig(answer_tokens_sigma=0)).text.startswith("[simulated ")


def test_lengths_follow_the_lognormal_distribution() -> None:
    config = SimulatorConfig(answer_tokens_median=200, answer_tokens_sigma=0.5)
    tokens = [write_answer(_ask(f"row {number}"), config).tokens for number in range(800)]
    assert statistics.median(tokens) == pytest.approx(200, rel=0.1)
    assert max(tokens) > 400


@pytest.mark.parametrize("ratio", [1.0, 3.3, 4.0])
def test_tokens_are_the_bytes_divided_by_the_ratio_rounded_up(ratio: float) -> None:
    config = SimulatorConfig(answer_tokens_median=37, answer_tokens_sigma=0, chars_per_token=ratio)
    answer = write_answer(_ask(config=config), config)
    assert answer.tokens == -(-len(answer.text) // ratio) == 37


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_length_limit_cuts_the_text_and_says_so(name: str) -> None:
    config = SimulatorConfig(answer_tokens_median=100, answer_tokens_sigma=0)
    answer = write_answer(_ask(**{name: 5}), config)
    assert (answer.tokens, answer.finish_reason, len(answer.text)) == (5, "length", 20)


def test_a_length_limit_that_is_not_met_changes_nothing() -> None:
    config = SimulatorConfig(answer_tokens_median=10, answer_tokens_sigma=0)
    assert write_answer(_ask(max_tokens=10), config).finish_reason == "stop"


def test_the_models_own_maximum_cuts_too() -> None:
    config = SimulatorConfig(answer_tokens_median=100, answer_tokens_sigma=0, max_output_tokens=30)
    assert write_answer(_ask(config=config), config).tokens == 30


def test_a_cut_never_leaves_half_a_character() -> None:
    schema = {"type": "object", "properties": {"a": {"const": "ééééééééé"}}}
    declared = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    texts = [write_answer(_ask(max_tokens=n, response_format=declared), SimulatorConfig()).text for n in range(1, 6)]
    assert all("�" not in text for text in texts)


def test_a_stop_sequence_ends_the_text() -> None:
    whole = write_answer(_ask(), SimulatorConfig()).text
    stopped = write_answer(_ask(stop=["]"]), SimulatorConfig())
    assert stopped.text == whole.split("]")[0]
    assert stopped.finish_reason == "stop"


def test_a_structured_answer_is_json() -> None:
    asked = _ask("as JSON", response_format={"type": "json_object"})
    assert isinstance(orjson.loads(write_answer(asked, SimulatorConfig()).text), dict)


def test_a_halved_answer_is_half_as_long_and_ends_with_length() -> None:
    config = SimulatorConfig(answer_tokens_median=40, answer_tokens_sigma=0)
    whole = write_answer(_ask(), config)
    half = halved(whole, config)
    assert whole.text.startswith(half.text)
    assert (half.tokens, half.finish_reason) == (20, "length")
