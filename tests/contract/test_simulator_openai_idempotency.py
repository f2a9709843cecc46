"""The simulator's Idempotency-Key, judged by the vendor's own client.

Belongs here: what a client of an endpoint with that header sees. Not here: the bounds of what is kept (tests/unit).
"""

import asyncio
from typing import Any

import openai
import pytest

from tests.contract.simulator_lab import Open, ask, collect


def key(name: str) -> dict[str, Any]:
    return {"extra_headers": {"Idempotency-Key": name}}


async def test_the_same_key_gets_the_same_answer_and_is_billed_once(open_simulator: Open) -> None:
    simulator, client = await open_simulator(idempotency=True, requests_per_minute=60, burst_s=0)
    first = await ask(client, **key("a"))
    paid = simulator.stats()
    again = [await ask(client, **key("a")) for _ in range(3)]
    assert all(one == first for one in again)
    stats = simulator.stats()
    assert (stats["replayed"], stats["accepted"], stats["answered"]) == (3, 1, 1)
    assert (stats["input_tokens"], stats["output_tokens"]) == (paid["input_tokens"], paid["output_tokens"])
    assert stats["duplicates"]["answered_twice"] == 0


async def test_another_key_or_none_is_another_request(open_simulator: Open) -> None:
    simulator, client = await open_simulator(idempotency=True)
    ids = {(await ask(client, **asked)).id for asked in (key("a"), key("b"), {}, {})}
    assert len(ids) == 4
    assert (simulator.stats()["accepted"], simulator.stats()["replayed"]) == (4, 0)


async def test_a_key_that_comes_with_another_request_is_refused(open_simulator: Open) -> None:
    _, client = await open_simulator(idempotency=True)
    await ask(client, "one", **key("a"))
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        await ask(client, "two", **key("a"))
    assert refused.value.code == "idempotency_key_conflict"


async def test_a_key_that_is_still_in_work_is_refused(open_simulator: Open) -> None:
    simulator, client = await open_simulator(idempotency=True, latency_median_s=30, latency_sigma=0)
    first = asyncio.create_task(ask(client, **key("a")))
    while not simulator.stats()["in_flight"]:
        await asyncio.sleep(0.01)
    with pytest.raises(openai.ConflictError) as refused:
        await ask(client, **key("a"))
    assert refused.value.code == "idempotency_request_in_progress"
    first.cancel()


async def test_what_was_not_billed_is_tried_anew_under_its_key(open_simulator: Open) -> None:
    simulator, client = await open_simulator(idempotency=True, faults={"server_error": 1})
    with pytest.raises(openai.InternalServerError):
        await ask(client, **key("a"))
    simulator.configure(faults={})
    assert (await ask(client, **key("a"))).choices[0].finish_reason == "stop"
    assert simulator.stats()["replayed"] == 0


async def test_an_answer_that_was_billed_and_got_lost_is_there_the_second_time(open_simulator: Open) -> None:
    """What the header is for: the connection broke after the work was done."""
    simulator, client = await open_simulator(idempotency=True, faults={"truncated": 1})
    with pytest.raises(openai.APIConnectionError):
        await ask(client, **key("a"))
    paid = simulator.stats()["output_tokens"]
    assert (await ask(client, **key("a"))).usage.completion_tokens == paid == simulator.stats()["output_tokens"]


async def test_a_stream_is_given_again_as_a_stream(open_simulator: Open) -> None:
    _, client = await open_simulator(idempotency=True)
    first = await collect(await ask(client, stream=True, **key("a")))
    assert first == await collect(await ask(client, stream=True, **key("a")))


async def test_without_the_setting_the_header_means_nothing_as_with_openai_itself(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    for _ in range(2):
        await ask(client, **key("a"))
    assert (simulator.stats()["accepted"], simulator.stats()["replayed"]) == (2, 0)
