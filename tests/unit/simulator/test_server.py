"""The simulator as a server: endpoints, vanishing clients, broken connections, start and stop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from batch_llm.clock import ManualClock
from batch_llm.simulator import FaultKind, Simulator, SimulatorConfig

KEY = {"Authorization": "Bearer any"}
Open = Callable[..., Any]


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens a simulator and an HTTP session on its root."""
    async with AsyncExitStack() as stack:

        async def opened(clock: Any = None, **config: Any) -> tuple[Simulator, aiohttp.ClientSession]:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=clock))
            root = simulator.base_url.removesuffix("v1")
            session = await stack.enter_async_context(aiohttp.ClientSession(root, headers=KEY))
            return simulator, session

        yield opened


def _body(text: str = "hello", **extra: Any) -> dict[str, Any]:
    return {"model": "simulator/small", "messages": [{"role": "user", "content": text}], **extra}


async def _until(holds: Callable[[], bool]) -> None:
    """Let the server's tasks run until something is true; the test's timeout ends it otherwise."""
    while not holds():
        await asyncio.sleep(0)


async def _half_request(simulator: Simulator, text: str = "hello") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a whole request over a bare socket and read nothing."""
    host, port = simulator.base_url.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    payload = b'{"model":"simulator/small","messages":[{"role":"user","content":"%s"}]}' % text.encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: {len(payload)}"
    writer.write(head.encode() + b"\r\n\r\n" + payload)
    await writer.drain()
    return reader, writer


async def test_healthz_and_stats_need_no_key(open_simulator: Open) -> None:
    simulator, _ = await open_simulator()
    async with aiohttp.ClientSession(simulator.base_url.removesuffix("v1")) as keyless:
        async with keyless.get("healthz") as answer:
            assert await answer.json() == {"status": "ok"}
        async with keyless.get("stats") as answer:
            assert await answer.json() == simulator.stats()


async def test_stats_show_details_only_when_asked(open_simulator: Open) -> None:
    _, session = await open_simulator()
    async with session.post("v1/chat/completions", json=_body()) as answer:
        assert answer.status == 200
    async with session.get("stats") as plain, session.get("stats?detail=1") as detailed:
        assert "prompts" not in await plain.json()
        prompts = (await detailed.json())["prompts"]
    assert list(prompts.values()) == [{"attempts": 1, "answered": 1, "closed_before_answer": 0}]


async def test_an_unknown_address_is_a_404_with_openais_body(open_simulator: Open) -> None:
    _, session = await open_simulator()
    async with session.post("v1/images", json={}) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["message"] == "Invalid URL (POST /v1/images)"


async def test_limits_can_be_changed_while_running_and_keep_what_is_used(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, session = await open_simulator(clock=clock, requests_per_minute=2, burst_s=60)
    for _ in range(2):
        async with session.post("v1/chat/completions", json=_body()) as answer:
            assert answer.status == 200
    async with session.post("sim/config", json={"requests_per_minute": 3}) as answer:
        assert (await answer.json())["requests_per_minute"] == 3
    statuses = []
    for _ in range(2):
        async with session.post("v1/chat/completions", json=_body()) as answer:
            statuses.append(answer.status)
    assert statuses == [200, 429]
    assert simulator.stats()["rejected"] == {"requests_per_minute": 1}


@pytest.mark.parametrize(
    "wrong", [b"{", b"[]", b'{"rpm": 3}', b'{"burst_s": -1}', b'{"faults": {"reset": 1, "hang": 1}}']
)
async def test_a_bad_change_is_refused_and_changes_nothing(open_simulator: Open, wrong: bytes) -> None:
    _, session = await open_simulator()
    async with session.get("sim/config") as answer:
        before = await answer.json()
    async with session.post("sim/config", data=wrong) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"
    async with session.get("sim/config") as answer:
        assert await answer.json() == before


async def test_the_configuration_is_shown_without_the_key(open_simulator: Open) -> None:
    _, session = await open_simulator(api_key="opensesame")
    async with session.get("sim/config") as answer:
        text = await answer.text()
    assert "seed" in text
    assert "opensesame" not in text


async def test_a_change_of_something_else_keeps_the_key(open_simulator: Open) -> None:
    simulator, session = await open_simulator(api_key="opensesame")
    simulator.configure(seed=3)
    async with session.get("v1/models") as answer:
        assert answer.status == 401


async def test_a_reset_forgets_the_statistics(open_simulator: Open) -> None:
    simulator, session = await open_simulator(requests_per_minute=600)
    async with session.post("v1/chat/completions", json=_body()) as answer:
        assert answer.status == 200
    assert simulator.stats()["accepted"] == 1
    async with session.post("sim/reset") as answer:
        assert answer.status == 200
    stats = simulator.stats()
    assert (stats["accepted"], stats["duplicates"]["prompts"], stats["utilisation"]) == (
        0,
        0,
        {"requests_per_minute": 0},
    )


async def test_latency_passes_on_the_injected_clock(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, session = await open_simulator(
        clock=clock, latency_median_s=100, latency_sigma=0, token_s=2, answer_tokens_median=10, answer_tokens_sigma=0
    )

    async def ask() -> int:
        async with session.post("v1/chat/completions", json=_body()) as answer:
            return answer.status

    asked = asyncio.create_task(ask())
    await _until(lambda: simulator.stats()["in_flight"] == 1)
    await clock.advance(119)
    assert not asked.done()
    await clock.advance(2)
    assert await asked == 200


async def test_a_client_that_vanishes_is_counted_and_paid_nothing(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, _ = await open_simulator(clock=clock, latency_median_s=10, latency_sigma=0)
    _, writer = await _half_request(simulator)
    await _until(lambda: simulator.stats()["in_flight"] == 1)
    writer.close()
    await writer.wait_closed()
    await _until(lambda: simulator.stats()["in_flight"] == 0)
    stats = simulator.stats(detail=True)
    assert (stats["closed_before_answer"], stats["answered"], stats["output_tokens"]) == (1, 0, 0)
    assert [prompt["closed_before_answer"] for prompt in stats["prompts"].values()] == [1]


async def test_a_client_that_vanishes_while_the_answer_drips_is_counted_too(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, _ = await open_simulator(clock=clock, faults={"drip": 1.0}, drip_s=20)
    reader, writer = await _half_request(simulator)
    await reader.readuntil(b"\r\n\r\n")
    await clock.advance(5)
    writer.transport.abort()
    await _until(lambda: simulator.stats()["in_flight"] == 0)
    assert (simulator.stats()["closed_before_answer"], simulator.stats()["answered"]) == (1, 0)


async def test_a_dripping_answer_takes_its_time_and_is_good(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, session = await open_simulator(clock=clock, faults={"drip": 1.0}, drip_s=20)

    async def ask() -> Any:
        async with session.post("v1/chat/completions", json=_body()) as answer:
            return await answer.json()

    asked = asyncio.create_task(ask())
    await _until(lambda: simulator.stats()["faults"] == {"drip": 1})
    for _ in range(18):
        await clock.advance(1)
    assert not asked.done()
    while not asked.done():
        await clock.advance(1)
    assert (await asked)["choices"][0]["finish_reason"] == "stop"
    assert simulator.stats()["answered"] == 1


async def test_a_reset_connection_sends_no_byte(open_simulator: Open) -> None:
    simulator, _ = await open_simulator(faults={"reset": 1.0})
    reader, writer = await _half_request(simulator)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    await _until(lambda: simulator.stats()["in_flight"] == 0)
    assert simulator.stats()["closed_before_answer"] == 0


async def test_a_truncated_body_is_shorter_than_announced(open_simulator: Open) -> None:
    simulator, _ = await open_simulator(faults={"truncated": 1.0})
    reader, writer = await _half_request(simulator)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    announced = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
    assert 0 < len(body) == announced // 2
    writer.close()
    await writer.wait_closed()


async def test_faults_depend_on_prompt_and_attempt_not_on_order(open_simulator: Open) -> None:
    simulator, session = await open_simulator(faults={"server_error": 0.4}, seed=5)

    async def statuses(order: list[int]) -> dict[int, list[int]]:
        simulator.reset()
        seen: dict[int, list[int]] = {number: [] for number in order}
        for _ in range(3):
            for number in order:
                async with session.post("v1/chat/completions", json=_body(f"row {number}")) as answer:
                    seen[number].append(answer.status)
        return seen

    forwards = await statuses(list(range(12)))
    assert forwards == await statuses(list(reversed(range(12))))
    assert len({tuple(attempts) for attempts in forwards.values()}) > 2


async def test_closing_does_not_wait_for_hanging_clients() -> None:
    async with Simulator(SimulatorConfig(faults={FaultKind.HANG: 1.0})) as simulator:
        _, writer = await _half_request(simulator)
        await _until(lambda: simulator.stats()["in_flight"] == 1)
    assert simulator.stats()["in_flight"] == 0
    writer.close()


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            async with Simulator(port=taken.getsockname()[1]):
                pass


async def test_the_most_requests_at_once_are_remembered(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, _ = await open_simulator(clock=clock, latency_median_s=10, latency_sigma=0)
    opened = [await _half_request(simulator, f"row {number}") for number in range(3)]
    await _until(lambda: simulator.stats()["in_flight"] == 3)
    await clock.advance(11)
    await _until(lambda: simulator.stats()["in_flight"] == 0)
    assert simulator.stats()["max_in_flight"] == 3
    for _, writer in opened:
        writer.close()
        await writer.wait_closed()
