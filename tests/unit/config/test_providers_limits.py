"""Limits in the providers file: units, days, windows, and what is said of a wrong one."""

from __future__ import annotations

import pytest

from batch_llm.config.providers_file import LimitsSpec, ProvidersFile, headers_of, parse_providers
from batch_llm.errors import JobFileError, ProvidersFileError
from tests.unit.config.providers_lab import find_pool


def pool(body: str) -> str:
    return f"providers:\n  x:\n    kind: openai_compatible\n    base_url: http://h/v1\n    pools:\n      - {body}\n"


def account(kind: str = "openai") -> ProvidersFile:
    return parse_providers(
        f"providers: {{openai: {{kind: {kind}, api_key: '${{env:K}}', base_url: 'http://h/v1', pools: [{{models: "
        "[small], limits: {requests_per_minute: 10000, tokens_per_minute: 2000000}}]}}",
        "p.yaml",
    )


def refused(text: str) -> str:
    with pytest.raises(ProvidersFileError) as caught:
        parse_providers(text, "p.yaml")
    return str(caught.value)


def test_limits_per_second_and_per_day_and_the_days_reset_are_read() -> None:
    text = pool(
        "{models: [m], limits: {requests_per_second: 2.5, tokens_per_second: 100, requests_per_day: 200, "
        "tokens_per_day: 5000, enqueued_tokens: 7}, day_resets: America/Los_Angeles, headers: groq}"
    )
    provider, found = find_pool(parse_providers(text, "p.yaml"), "x", "m")
    assert found.limits != "unknown"
    assert (found.limits.requests_each_minute, found.limits.tokens_each_minute) == (150, 6_000)
    assert (found.limits.requests_per_day, found.limits.tokens_per_day, found.limits.enqueued_tokens) == (200, 5_000, 7)
    assert (found.day_resets, headers_of(provider, found)) == ("America/Los_Angeles", "groq")


def test_limits_per_minute_stay_as_they_are() -> None:
    limits = find_pool(account(), "openai", "small")[1].limits
    assert limits != "unknown"
    assert (limits.requests_each_minute, limits.tokens_each_minute) == (10_000, 2_000_000)
    assert LimitsSpec(max_concurrency=1).requests_each_minute is None


def test_without_a_word_the_headers_are_those_of_the_kind() -> None:
    assert headers_of(*find_pool(account(), "openai", "small")) == "openai"
    assert headers_of(*find_pool(account("openai_compatible"), "openai", "small")) == "none"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (
            "requests: 100",
            "'requests'; the unit is missing: requests_per_minute, requests_per_second or requests_per_day?",
        ),
        ("tokens: 1", "the unit is missing: tokens_per_minute, tokens_per_second or tokens_per_day?"),
        ("input_tokens: 1", "the unit is missing: input_tokens_per_minute?"),
        (
            "requests_per_hour: 5",
            "its unit is none of second, minute, day; say it as requests_per_minute, requests_per",
        ),
        ("requests_per_min: 5", "unknown key 'requests_per_min'; did you mean 'requests_per_minute'?"),
        ("input_tokens_per_day: 5", "unknown key 'input_tokens_per_day'; did you mean "),
        ("RPM: 5", "unknown key 'RPM'; did you mean 'requests_per_minute'?"),
        ("tpd: 5", "did you mean 'tokens_per_day'?"),
        ("speed: 5", "unknown key 'speed' (valid here: enqueued_tokens, "),
        ("requests_per_day: 0", "limits.requests_per_day: must be greater than 0, got 0"),
        ("tokens_per_second: -1", "limits.tokens_per_second: must be greater than 0, got -1"),
        ("requests_per_minute: 60/min", "limits.requests_per_minute: must be a number, got '60/min'"),
        ("requests_per_minute: 1e999", "limits.requests_per_minute: must be a finite number"),
        ("max_concurrency: 0", "limits.max_concurrency: must be at least 1, got 0"),
        ("max_concurrency: 1.5", "limits.max_concurrency: must be a whole number, got 1.5"),
        ("requests_per_minute: null", "limits: give at least one limit"),
        (
            "requests_per_minute: 60, requests_per_second: 1",
            "limits.requests_per_second: requests_per_minute is given as well: it is one limit, give one of the two",
        ),
        ("tokens_per_minute: 60, tokens_per_second: 1", "limits.tokens_per_second: tokens_per_minute is given as well"),
    ],
)
def test_a_wrong_limit_is_told_with_its_line(limit: str, expected: str) -> None:
    text = refused(pool(f"{{models: [m], limits: {{{limit}}}}}"))
    assert expected in text
    assert text.startswith("p.yaml:6: providers.x.pools[0].limits")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (
            "day_resets: America/Los_Angelos",
            "there is no time zone 'America/Los_Angelos'; did you mean 'America/Los_Angeles'?",
        ),
        ("day_resets: america/los_angeles", "did you mean 'America/Los_Angeles'?"),
        ("day_resets: America", "there is no time zone 'America'"),
        ("day_resets: ../../etc/passwd", "there is no time zone"),
        ("day_resets: midnight", "give a name such as America/Los_Angeles or UTC"),
        ("day_resets: ''", "there is no time zone"),
        ("day_resets: 8", "day_resets: must be text, got 8"),
        ("headers: grok", "headers: 'grok' is not one of openai, azure, anthropic, groq, none; did you mean 'groq'?"),
        (
            "burst_s: 2, window_s: 1",
            "burst_s: 2 s cannot be saved up where the provider counts in windows of 1 s (window_s)",
        ),
        ("burst_s: inf", "burst_s: must be a number, got 'inf'"),
        ("window_s: -1", "window_s: must be greater than 0, got -1"),
    ],
)
def test_a_wrong_word_about_how_the_provider_counts_is_told(key: str, expected: str) -> None:
    text = refused(pool(f"{{models: [m], limits: unknown, {key}}}"))
    assert expected in text
    assert text.startswith(f"p.yaml:6: providers.x.pools[0].{key.partition(':')[0]}: ")


def test_a_pool_without_limits_and_a_model_in_no_pool_are_told_before_any_call() -> None:
    assert "p.yaml:6: providers.x.pools[0].limits: is required" in refused(pool("models: [m]"))
    with pytest.raises(JobFileError, match=r"no pool of provider 'x' has the model 'k' \(p.yaml:5: .*\) \(models: m\)"):
        find_pool(parse_providers(pool("{models: [m], limits: unknown}"), "p.yaml"), "x", "k")
