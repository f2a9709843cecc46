"""The simulator's faults, judged by the vendor's own client: each reaches it as what it is."""

import asyncio
import json

import openai
import pytest

from tests.contract.simulator_lab import FAULTS, Open, ask, collect


@pytest.mark.parametrize(("kind", "expected", "status"), FAULTS)
async def test_a_fault_reaches_the_client_as_what_it_is(
    open_simulator: Open, kind: str, expected: type[Exception], status: int | None
) -> None:
    simulator, client = await open_simulator(faults={kind: 1.0})
    with pytest.raises(expected) as error:
        await ask(client)
    assert getattr(error.value, "status_code", None) == status
    stats = simulator.stats()
    assert (stats["faults"], stats["answered"], stats["rejected"]) == ({kind: 1}, 0, {})
    assert stats["accepted"] == (0 if kind == "rate_limit" else 1)
    assert (stats["output_tokens"] > 0) == (kind in ("truncated", "malformed"))  # paid, and lost


async def test_an_injected_429_asks_to_wait(open_simulator: Open) -> None:
    _, client = await open_simulator(faults={"rate_limit": 1.0}, fault_retry_after_s=2.5)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert error.value.response.headers["retry-after"] == "3"
    assert error.value.response.headers["retry-after-ms"] == "2500"


async def test_a_hanging_request_is_never_answered(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"hang": 1.0})
    with pytest.raises(openai.APITimeoutError):
        await ask(client, timeout=0.05)
    while simulator.stats()["in_flight"]:
        await asyncio.sleep(0)
    assert (simulator.stats()["answered"], simulator.stats()["output_tokens"]) == (0, 0)


async def test_an_answer_cut_by_a_fault_has_half_its_text_and_says_length(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"length": 1.0}, answer_tokens_median=40, answer_tokens_sigma=0)
    answer = await ask(client)
    assert (answer.choices[0].finish_reason, len(answer.choices[0].message.content)) == ("length", 80)
    assert simulator.stats()["answered"] == 0


async def test_an_empty_answer_is_empty_and_is_no_good_answer(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"empty": 1.0})
    answer = await ask(client)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "stop")
    assert simulator.stats()["answered"] == 0


async def test_wrong_usage_is_negative_absurd_or_missing_while_the_text_is_good(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"usage": 1.0})
    usages = [(await ask(client, f"row {row}")).usage for row in range(20)]
    assert {None if usage is None else usage.completion_tokens for usage in usages} == {None, -1, 10**12}
    assert simulator.stats()["answered"] == 20


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("server_error", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
        ("truncated", openai.APIConnectionError),
        ("malformed", json.JSONDecodeError),
    ],
)
async def test_streams_break_too(open_simulator: Open, kind: str, expected: type[Exception]) -> None:
    simulator, client = await open_simulator(faults={kind: 1.0})
    with pytest.raises(expected):
        await collect(await ask(client, stream=True))
    assert simulator.stats()["answered"] == 0


async def test_another_attempt_of_the_same_prompt_has_a_fate_of_its_own(open_simulator: Open) -> None:
    _, client = await open_simulator(faults={"server_error": 0.5})
    outcomes = set()
    for _ in range(20):
        try:
            await ask(client)
            outcomes.add("ok")
        except openai.InternalServerError:
            outcomes.add("spoiled")
    assert outcomes == {"ok", "spoiled"}


async def test_a_mix_of_faults_hits_its_share_and_the_same_attempts_again(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults="server_error=0.1,overloaded=0.1", seed=4)

    async def run() -> list[str]:
        simulator.reset()
        outcomes = []
        for row in range(150):
            try:
                await ask(client, f"row {row}")
                outcomes.append("ok")
            except openai.InternalServerError as error:
                outcomes.append(str(error.status_code))
        return outcomes

    first = await run()
    assert first == await run()
    assert 15 <= 150 - first.count("ok") <= 50
