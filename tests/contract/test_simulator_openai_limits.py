"""The simulator's limits and quotas, judged by the vendor's own client."""

import asyncio

import openai
import pytest

from batch_llm.clock import ManualClock
from tests.contract.simulator_lab import Open, ask, headers_of


async def test_the_request_limit_is_enforced_and_the_named_wait_is_exact(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_minute=3, burst_s=60)
    for _ in range(3):
        await ask(client)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "requests")
    assert "on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s." in str(error.value)
    assert error.value.response.headers["retry-after"] == "20"
    assert error.value.response.headers["retry-after-ms"] == "20000"
    await clock.advance(19.99)
    with pytest.raises(openai.RateLimitError):
        await ask(client)
    await clock.advance(0.02)
    await ask(client)
    stats = simulator.stats()
    assert (stats["accepted"], stats["rejected"]) == (4, {"requests_per_minute": 2})
    assert stats["utilisation"]["requests_per_minute"] == pytest.approx(4 / (20.01 * 3 / 60 + 3), abs=1e-4)


async def test_the_token_limit_counts_prompt_and_completion(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock, tokens_per_minute=600, burst_s=60, answer_tokens_median=100, answer_tokens_sigma=0
    )
    await ask(client, "x" * 1_600)  # 400 + 100
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client, "x" * 800)  # 200 + 100: 200 too many, 10 a second
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "tokens")
    assert "on tokens per min (TPM): Limit 600, Used 500, Requested 300. Please try again in 20s." in str(error.value)
    await clock.advance(20.01)
    await ask(client, "x" * 800)


async def test_the_burst_is_what_was_saved_up_and_no_more(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_minute=60, burst_s=2)
    await clock.advance(3_600)
    for _ in range(3):  # two saved up, and one at hand
        await ask(client)
    with pytest.raises(openai.RateLimitError):
        await ask(client)
    assert simulator.stats()["accepted"] == 3


async def test_fixed_windows_are_counted_when_told_so(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(clock=clock, requests_per_minute=120, window_s=1)
    await clock.advance(0.75)
    for _ in range(2):
        await ask(client)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert error.value.response.headers["retry-after-ms"] == "250"
    await clock.advance(0.25)
    for _ in range(2):
        await ask(client)


async def test_every_answer_carries_the_rate_limit_headers(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock, requests_per_minute=60, tokens_per_minute=6_000, burst_s=60,
        answer_tokens_median=20, answer_tokens_sigma=0,
    )  # fmt: skip
    headers = await headers_of(client, "x" * 320)
    assert {name: value for name, value in headers.items() if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5900",
        "x-ratelimit-reset-tokens": "1s",
    }
    for _ in range(59):
        await ask(client, "x")
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client, "x")
    assert error.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert error.value.response.headers["x-ratelimit-reset-requests"] == "1m0s"


async def test_a_request_larger_than_the_limit_is_refused_for_good(open_simulator: Open) -> None:
    simulator, client = await open_simulator(tokens_per_minute=100)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client, "x" * 4_000)
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "tokens")
    assert "Request too large for simulator/small" in str(error.value)
    assert "The input or output tokens must be reduced in order to run successfully." in str(error.value)
    assert "retry-after" not in error.value.response.headers
    assert simulator.stats()["rejected"] == {"too_large": 1}


async def test_debiting_max_tokens_takes_them_whether_they_are_used_or_not(open_simulator: Open) -> None:
    clock = ManualClock()
    config = {"tokens_per_minute": 1_000, "burst_s": 60, "answer_tokens_median": 10, "answer_tokens_sigma": 0}
    _, client = await open_simulator(clock=clock, debit="input_plus_max_tokens", **config)
    headers = await headers_of(client, "x" * 400, max_tokens=500)
    assert headers["x-ratelimit-remaining-tokens"] == "400"
    with pytest.raises(openai.RateLimitError):
        await ask(client, "x" * 400, max_tokens=500)
    with pytest.raises(openai.RateLimitError, match="Request too large"):
        await ask(client, max_tokens=2_000)


async def test_debiting_max_tokens_then_correcting_gives_the_rest_back_after_the_answer(open_simulator: Open) -> None:
    clock = ManualClock()
    config = {"tokens_per_minute": 1_000, "burst_s": 60, "answer_tokens_median": 10, "answer_tokens_sigma": 0}
    _, client = await open_simulator(clock=clock, debit="input_plus_max_tokens_then_corrected", **config)
    for used in (600, 710, 820):
        headers = await headers_of(client, "x" * 400, max_tokens=500)
        assert headers["x-ratelimit-remaining-tokens"] == str(1_000 - used)


async def test_without_max_tokens_the_models_maximum_is_debited(open_simulator: Open) -> None:
    _, client = await open_simulator(debit="input_plus_max_tokens", tokens_per_minute=1_000, max_output_tokens=990)
    with pytest.raises(openai.RateLimitError, match="Requested 1090"):
        await ask(client, "x" * 400)


async def test_a_daily_quota_ends_with_a_429_that_says_until_when(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_day=3)
    for _ in range(3):
        await ask(client)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "requests")
    assert "on requests per day (RPD): Limit 3, Used 3, Requested 1. Please try again in 8h0m0s." in str(error.value)
    assert error.value.response.headers["retry-after"] == "28800"
    assert simulator.stats()["rejected"] == {"requests_per_day": 1}


async def test_a_daily_token_quota_likewise(open_simulator: Open) -> None:
    _, client = await open_simulator(tokens_per_day=150, answer_tokens_median=100, answer_tokens_sigma=0)
    await ask(client)
    with pytest.raises(openai.RateLimitError, match="on tokens per day"):
        await ask(client)


async def test_credit_that_is_used_up_is_insufficient_quota_without_a_wait(open_simulator: Open) -> None:
    simulator, client = await open_simulator(quota_requests=2)
    for _ in range(2):
        await ask(client)
    with pytest.raises(openai.RateLimitError, match="You exceeded your current quota") as error:
        await ask(client)
    assert (error.value.code, error.value.type) == ("insufficient_quota", "insufficient_quota")
    assert "retry-after" not in error.value.response.headers
    assert simulator.stats()["rejected"] == {"insufficient_quota": 1}


async def test_too_many_at_once_are_a_503(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, max_concurrency=1, latency_median_s=5, latency_sigma=0)
    first = asyncio.create_task(ask(client))
    while simulator.stats()["in_flight"] == 0:
        await asyncio.sleep(0)
    with pytest.raises(openai.InternalServerError, match="overloaded") as error:
        await ask(client, "second")
    assert error.value.status_code == 503
    await clock.advance(6)
    await first
    assert simulator.stats()["rejected"] == {"max_concurrency": 1}


async def test_a_day_with_a_fixed_beginning_starts_anew_there_and_not_before(open_simulator: Open) -> None:
    """The manual clock's wall starts at midnight UTC; eight hours later it is midnight in California."""
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_day=3, day_resets_s=8 * 3600)
    for _ in range(3):
        await ask(client)
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client)
    assert "on requests per day (RPD): Limit 3, Used 3, Requested 1. Please try again in 8h0m0s." in str(error.value)
    assert error.value.response.headers["retry-after"] == "28800"
    await clock.advance(8 * 3600 - 1)
    with pytest.raises(openai.RateLimitError, match="try again in 1s"):
        await ask(client)
    await clock.advance(1)
    for _ in range(3):
        await ask(client)
    with pytest.raises(openai.RateLimitError, match="try again in 24h0m0s"):
        await ask(client)
    assert simulator.stats()["rejected"] == {"requests_per_day": 3}


async def test_a_days_tokens_begin_anew_at_the_same_moment(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(
        clock=clock, tokens_per_day=250, day_resets_s=0, answer_tokens_median=100, answer_tokens_sigma=0
    )
    await clock.advance(86_400 - 60)
    for _ in range(2):
        await ask(client, "x" * 100)  # 25 + 100
    with pytest.raises(openai.RateLimitError, match=r"tokens per day \(TPD\): Limit 250, Used 250.* try again in 1m0s"):
        await ask(client, "x" * 100)
    await clock.advance(60)
    await ask(client, "x" * 100)


async def test_the_request_headers_are_those_of_the_day_where_there_is_such_a_limit(open_simulator: Open) -> None:
    """Recorded: limit 10000, remaining 9999, reset 8.64s. A day with a fixed beginning (Google's) has no headers."""
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_minute=500, requests_per_day=10_000, burst_s=60)
    headers = await headers_of(client)
    assert [headers[f"x-ratelimit-{part}-requests"] for part in ("limit", "remaining", "reset")] == [
        "10000", "9999", "8.64s",
    ]  # fmt: skip
    simulator.configure(day_resets_s=0)
    headers = await headers_of(client)
    assert headers["x-ratelimit-limit-requests"] == "500"


async def test_input_and_output_tokens_are_limited_apart(open_simulator: Open) -> None:
    clock = ManualClock()
    simulator, client = await open_simulator(
        clock=clock, input_tokens_per_minute=600, output_tokens_per_minute=300, burst_s=60,
        answer_tokens_median=100, answer_tokens_sigma=0,
    )  # fmt: skip
    await ask(client, "x" * 2_000)  # 500 in, 100 out
    with pytest.raises(openai.RateLimitError) as error:
        await ask(client, "x" * 800)  # 200 in: 100 too many, 10 a second
    assert (error.value.code, error.value.type) == ("rate_limit_exceeded", "tokens")
    assert "on input tokens per min (ITPM): Limit 600, Used 500, Requested 200. Please try again in 10s." in str(
        error.value
    )
    for _ in range(2):
        await ask(client, "x")
    with pytest.raises(openai.RateLimitError, match=r"on output tokens per min \(OTPM\): Limit 300, Used 300"):
        await ask(client, "x")
    assert simulator.stats()["rejected"] == {"input_tokens_per_minute": 1, "output_tokens_per_minute": 1}
    assert set(simulator.stats()["utilisation"]) == {"input_tokens_per_minute", "output_tokens_per_minute"}


async def test_output_tokens_are_reserved_by_max_tokens_and_corrected_when_told_so(open_simulator: Open) -> None:
    """As Anthropic's documentation had it: estimated at the beginning, adjusted at the end."""
    clock = ManualClock()
    config = {"output_tokens_per_minute": 1_000, "burst_s": 60, "answer_tokens_median": 10, "answer_tokens_sigma": 0}
    corrected, client = await open_simulator(
        clock=clock, debit="input_plus_max_tokens_then_corrected", latency_median_s=1, latency_sigma=0, **config
    )
    first = asyncio.create_task(ask(client, max_tokens=600))
    while corrected.stats()["in_flight"] == 0:
        await asyncio.sleep(0)
    with pytest.raises(openai.RateLimitError, match=r"Limit 1000, Used 600, Requested 600"):
        await ask(client, "second", max_tokens=600)
    await clock.advance(1.5)
    await first
    corrected.configure(latency_median_s=0)
    await ask(client, "second", max_tokens=600)
    _, client = await open_simulator(clock=clock, debit="input_plus_max_tokens", **config)
    await ask(client, max_tokens=600)
    with pytest.raises(openai.RateLimitError, match=r"Limit 1000, Used 600, Requested 600"):
        await ask(client, "second", max_tokens=600)
    with pytest.raises(openai.RateLimitError, match="Request too large"):
        await ask(client, max_tokens=1_001)


async def test_debited_at_the_end_parallel_answers_overrun_the_limit_and_are_paid_back(open_simulator: Open) -> None:
    """At admission only the prompt is taken; what is written counts when it is written, as a debt if need be."""
    clock = ManualClock()
    simulator, client = await open_simulator(
        clock=clock, tokens_per_minute=600, burst_s=60, debit_at="end", answer_tokens_median=400,
        answer_tokens_sigma=0, latency_median_s=5, latency_sigma=0,
    )  # fmt: skip
    asked = [asyncio.create_task(ask(client, f"{number}" * 40)) for number in range(3)]  # 10 in, 400 out each
    while simulator.stats()["in_flight"] < 3:
        await asyncio.sleep(0)
    await clock.advance(5)
    await asyncio.gather(*asked)
    with pytest.raises(openai.RateLimitError, match=r"Limit 600, Used 1200, Requested 10. Please try again in 1m1s"):
        await ask(client, "y" * 40)  # 30 at the start, 5 s of 10 a second, then 1200
    simulator.configure(debit_at="admission")
    with pytest.raises(openai.RateLimitError, match=r"Used 1200, Requested 410"):
        await ask(client, "y" * 40)


async def test_windows_count_every_limit_per_minute(open_simulator: Open) -> None:
    clock = ManualClock()
    _, client = await open_simulator(clock=clock, input_tokens_per_minute=600, window_s=10)
    await clock.advance(9)
    await ask(client, "x" * 400)  # 100: all of this window
    with pytest.raises(openai.RateLimitError, match=r"Limit 600, Used 100, Requested 1. Please try again in 1s"):
        await ask(client, "x")
    await clock.advance(1)
    await ask(client, "x" * 400)
