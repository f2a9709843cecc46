"""The providers file: what it may say, what is refused, which pool answers a model."""

from __future__ import annotations

import re
import secrets
from decimal import Decimal
from pathlib import Path

import jsonschema_rs
import pytest

from batch_llm.config.providers_file import (
    DEFAULT_PROVIDERS,
    LimitsSpec,
    PoolSpec,
    PricesSpec,
    ProvidersFile,
    ProviderSpec,
    api_key_of,
    base_url_of,
    find_pools,
    idempotency_header_of,
    load_providers,
    parse_providers,
    providers_json_schema,
    structure_of,
)
from batch_llm.config.yaml_source import parse_yaml
from batch_llm.errors import ConfigurationError, JobFileError, ProvidersFileError, SecretError
from tests.unit.config.providers_lab import find_pool

FULL = """\
providers:
  openai:
    kind: openai
    api_key: ${env:OPENAI_API_KEY}
    base_url: https://eu.example.com/v1/
    pools:
      - name: main
        models: [gpt-4.1-mini, gpt-4.1]
        limits: {requests_per_minute: 10000, tokens_per_minute: 2000000, max_concurrency: 8}
        burst_s: 2
        window_s: 60
        debit: input_plus_max_tokens
        prices: {input: 0.40, output: 1.60}
      - name: other
        models: [gpt-5]
        api_key: ${env:OTHER_KEY}
        base_url: http://localhost:1/v1
        limits: unknown
  local:
    kind: openai_compatible
    base_url: http://localhost:8000/v1
    pools:
      - models: [llama]
        limits: {input_tokens_per_minute: 5, output_tokens_per_minute: 6}
  simulator:
    kind: simulator
    simulator: {latency_s: 0.1}
    pools:
      - models: [small]
        limits: {requests_per_minute: 3}
      - name: any
        models: ["*"]
        limits: {requests_per_minute: 9}
"""


def refused(text: str, kind: type[ConfigurationError] = ProvidersFileError) -> str:
    with pytest.raises(kind) as caught:
        parse_providers(text, "p.yaml")
    assert type(caught.value) is kind
    return str(caught.value)


def pool(body: str, *, name: str = "x", kind: str = "openai_compatible", extra: str = "base_url: http://h/v1") -> str:
    return f"providers:\n  {name}:\n    kind: {kind}\n    {extra}\n    pools:\n      - {body}\n"


def full() -> ProvidersFile:
    return parse_providers(FULL, "p.yaml")


def test_everything_of_the_reference_is_read() -> None:
    provider, main = find_pool(full(), "openai", "gpt-4.1")
    assert main.name == "main"
    assert main.limits != "unknown"
    assert (main.limits.requests_per_minute, main.limits.tokens_per_minute, main.limits.max_concurrency) == (
        10_000,
        2_000_000,
        8,
    )
    assert (main.burst_s, main.window_s, main.debit) == (2, 60, "input_plus_max_tokens")
    assert main.prices is not None
    assert (main.prices.input, main.prices.output) == (Decimal("0.4"), Decimal("1.6"))
    assert base_url_of(provider, main) == "https://eu.example.com/v1"


def test_what_stands_on_a_pool_wins() -> None:
    provider, other = find_pool(full(), "openai", "gpt-5")
    assert other.limits == "unknown"
    assert base_url_of(provider, other) == "http://localhost:1/v1"
    key = api_key_of("openai", provider, other, {"OTHER_KEY": "abcdefgh"})
    assert key is not None
    assert key.get_secret_value() == "abcdefgh"


def test_how_the_schema_is_told_and_attempts_are_named_stands_on_a_pool_or_its_provider() -> None:
    """Told by the API, and named by nothing, unless the file says otherwise."""
    provider, openai = find_pool(full(), "openai", "gpt-4.1-mini")
    assert (structure_of(provider, openai), idempotency_header_of(provider, openai)) == ("json_schema", None)
    assert structure_of(*find_pool(full(), "local", "llama")) == "json_schema"
    said = "structured_output: json_object\n    idempotency_header: Idempotency-Key\n    base_url: http://h/v1"
    both = parse_providers(pool("{models: [m], limits: unknown, structured_output: prompt}", extra=said), "p.yaml")
    found = find_pool(both, "x", "m")
    assert (structure_of(*found), idempotency_header_of(*found)) == ("prompt", "Idempotency-Key")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("structured_output: jsn_object", "'jsn_object' is not one of json_schema, json_object, prompt; did you mean"),
        ("idempotency_header: authorization", "authorization carries something else"),
        ("idempotency_header: X-Api-Key", "X-Api-Key carries something else"),
        ('idempotency_header: "a: b"', "'a: b' does not fit: a header that names each attempt"),
        ('idempotency_header: ""', "does not fit"),
    ],
)
def test_a_wrong_way_of_talking_to_an_endpoint_is_told(key: str, expected: str) -> None:
    assert expected in refused(pool(f"{{models: [m], limits: unknown, {key}}}"))


def test_a_pool_that_names_the_model_comes_before_one_for_any() -> None:
    assert find_pool(full(), "simulator", "small")[1].name == "main"
    assert find_pool(full(), "simulator", "other")[1].name == "any"


def test_no_key_is_needed_to_load_and_an_unset_one_says_what_to_do() -> None:
    provider, main = find_pool(full(), "openai", "gpt-4.1")
    with pytest.raises(SecretError) as caught:
        api_key_of("openai", provider, main, {})
    text = str(caught.value)
    assert "OPENAI_API_KEY is not set for provider 'openai'" in text
    assert "simulator/<model>" in text
    assert api_key_of("local", *find_pool(full(), "local", "llama"), {}) is None


def test_the_default_file_has_openai_adapting_and_the_simulator_limited() -> None:
    file = load_providers(None)
    openai, adapting = find_pool(file, "openai", "whatever")
    assert (openai.api_key, adapting.limits) == ("${env:OPENAI_API_KEY}", "unknown")
    limits = find_pool(file, "simulator", "demo")[1].limits
    assert limits != "unknown"
    assert (limits.requests_per_minute, limits.tokens_per_minute) == (600, 200_000)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("models: [a]", "p.yaml:6: providers.x.pools[0].limits: is required: requests_per_minute"),
        ("{models: [a], limits: {}}", "pools[0].limits: give at least one limit"),
        (
            "{models: [a], limits: {requests_per_minute: 0}}",
            "limits.requests_per_minute: must be greater than 0, got 0",
        ),
        ("{models: [a], limits: {tokens_per_minute: -5}}", "limits.tokens_per_minute: must be greater than 0, got -5"),
        ("{models: [a], limits: {requests_per_minute: fast}}", "must be a number, got 'fast'"),
        ("{models: [a], limits: {requests_per_minut: 1}}", "did you mean 'requests_per_minute'?"),
        ("{models: [a], limits: unknwon}", "pools[0].limits: 'unknwon' is not one of unknown; did you mean 'unknown'?"),
        ("{models: [a], limits: 5}", "pools[0].limits: must be a mapping"),
        ("{models: [], limits: unknown}", "pools[0].models: must not be empty"),
        ("{models: ['*'], limits: {requests_per_minute: 1}}", '"*" needs `limits: unknown`'),
        ("{models: [a], limits: unknown, burst_s: -1}", "burst_s: must be at least 0, got -1"),
        ("{models: [a], limits: unknown, window_s: 0}", "window_s: must be greater than 0, got 0"),
        ("{models: [a], limits: unknown, debit: actuall}", "did you mean 'actual'?"),
        ("{models: [a], limits: unknown, prices: {input: 1}}", "prices.output: is required"),
        ("{models: [a], limits: unknown, prices: {input: -1, output: 1}}", "prices.input: must be at least 0, got -1"),
        ("{models: [a], limits: unknown, base_url: 'http://a..b/v1'}", "base_url: must be a URL like https://host/v1"),
        ("{models: [a], limits: unknown, base_url: 'http://a b/v1'}", "base_url: must be a URL like https://host/v1"),
        (f"{{models: [a], limits: unknown, base_url: 'http://{'a' * 64}.com'}}", "base_url: must be a URL like https:"),
        ("{models: [a], limits: unknown, deployment: d}", "only kind azure has deployments"),
        ("{models: [a], limits: unknown, api_version: 2024-10-21-preview}", "only kind azure has versions of its API"),
        ("{models: [a], limits: unknown, project: my-project}", "only kind google has projects"),
        ("{models: [a], limits: unknown, name: 'a b'}", "'a b' does not fit: Unique in its provider"),
    ],
)
def test_a_wrong_pool_is_told_with_line_field_and_value(body: str, expected: str) -> None:
    assert expected in refused(pool(body))


def test_all_problems_are_told_at_once_each_with_its_line() -> None:
    text = refused(
        "providers:\n  x:\n    kind: opanai\n    pool: []\n    pools:\n      - models: [a]\n        limits: 3\n"
    )
    assert [line.split(": ")[0] for line in text.splitlines()] == ["p.yaml:3", "p.yaml:4", "p.yaml:7"]
    assert "'opanai' is not one of openai" in text
    assert "unknown key 'pool'; did you mean 'pools'?" in text


def test_a_model_of_one_account_in_two_pools_is_told_with_both_places() -> None:
    text = refused(pool("{name: a, models: [m], limits: unknown}\n      - {name: b, models: [k, m], limits: unknown}"))
    assert text == (
        "p.yaml:7: providers.x.pools[1].models[1]: the model 'm' stands here and in "
        "p.yaml:6: providers.x.pools[0].models[0]: one account, one limit; pools of one model need an account each"
    )


def test_a_model_twice_in_one_pool_is_refused() -> None:
    assert "one account, one limit" in refused(pool("{name: a, models: [m, m], limits: unknown}"))


def test_accounts_with_one_model_are_pools_of_it_in_their_order() -> None:
    """Those that name the model; else all that take any."""
    first = "{name: a, models: [m], limits: unknown, base_url: 'http://a/v1'}"
    second = "{name: b, models: [k, m], limits: unknown, base_url: 'http://b/v1'}"
    third = "{name: c, models: ['*'], limits: unknown, base_url: 'http://c/v1'}"
    file = parse_providers(pool(f"{first}\n      - {second}\n      - {third}"), "p.yaml")
    assert [found.name for found in find_pools(file, "x", "m")[1]] == ["a", "b"]
    assert [found.name for found in find_pools(file, "x", "k")[1]] == ["b"]
    assert [found.name for found in find_pools(file, "x", "any")[1]] == ["c"]
    assert find_pool(file, "x", "m")[1].name == "a"


def test_pools_of_one_model_are_asked_alike() -> None:
    """Else a row's prompt would depend on where it happens to go."""
    first = "{name: a, models: [m], limits: unknown, base_url: 'http://a/v1'}"
    second = "{name: b, models: [m], limits: unknown, base_url: 'http://b/v1', structured_output: prompt}"
    assert "pools of one model need the same structured_output" in refused(pool(f"{first}\n      - {second}"))


def test_pools_of_one_provider_have_different_names() -> None:
    assert "two pools are called 'main'" in refused(
        pool("{models: [m], limits: unknown}\n      - {models: [k], limits: unknown}")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "providers: {fake: {kind: simulator, pools: [{models: [a], limits: unknown}]}}",
            "kind simulator and the name 'simulator' go together",
        ),
        (
            "providers: {simulator: {kind: openai, api_key: '${env:K}', pools: [{models: [a], limits: unknown}]}}",
            "go together",
        ),
        (
            "providers: {simulator: {kind: simulator, api_key: '${env:K}', pools: [{models: [a], limits: unknown}]}}",
            "takes no key",
        ),
        (
            (
                "providers: {simulator: {kind: simulator, base_url: 'http://h', simulator: {}, "
                "pools: [{models: [a], limits: unknown}]}}"
            ),
            "without base_url",
        ),
        (
            "providers: {x: {kind: openai, pools: [{models: [a], limits: unknown}]}}",
            "api_key: is required for kind openai",
        ),
        ("providers: {x: {kind: openai_compatible, pools: [{models: [a], limits: unknown}]}}", "base_url: is required"),
        (pool("{models: [a], limits: unknown}", extra="base_url: ftp://h"), "must be a URL like https://host/v1"),
        (
            pool("{models: [a], limits: unknown}", extra="base_url: 'http://h:99999'"),
            "must be a URL like https://host/v1",
        ),
        ("providers: {}", "providers: must not be empty"),
        ("", "must be a mapping that begins with `providers:`"),
        ("- a", "must be a mapping that begins with `providers:`"),
        ("openai: {}", "unknown key 'openai'"),
        ("providers: [", "p.yaml:1: a bracket that is never closed"),
    ],
)
def test_a_wrong_file_is_told(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_a_missing_file_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ProvidersFileError, match=r"none.yaml: cannot be read .*BATCH_LLM_PROVIDERS"):
        load_providers(tmp_path / "none.yaml")


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(FULL)
    assert load_providers(file).providers == full().providers


def test_unknown_providers_and_models_name_the_nearest() -> None:
    with pytest.raises(
        JobFileError, match=r"no provider 'opanai' in p.yaml; did you mean 'openai'\? \(providers: openai, "
    ):
        find_pool(full(), "opanai", "x")
    with pytest.raises(
        JobFileError, match=r"'gpt-4.1-mni' \(p.yaml:6.*did you mean 'gpt-4.1-mini'\? \(models: .*gpt-5\)"
    ):
        find_pool(full(), "openai", "gpt-4.1-mni")


LEAVES = [
    "providers: {x: {kind: google, pools: [{models: [m], limits: unknown, project: QQ, location: QQ}]}}",
    "providers: QQ",
    "providers: {QQ: QQ}",
    "QQ: {}",
    "providers: {x: {QQ: 1}}",
    "providers: {x: {kind: QQ}}",
    "providers: {x: {kind: openai, api_key: QQ, pools: [{models: [m], limits: unknown}]}}",
    "providers: {x: {kind: openai, api_key: 5, pools: QQ}}",
    "providers: {x: {kind: openai, pools: [QQ]}}",
    "providers: {x: {kind: openai, pools: [{models: QQ}]}}",
    "providers: {x: {kind: openai, pools: [{models: [QQ, QQ], limits: unknown}]}}",
    "providers: {x: {kind: openai, pools: [{models: [m], limits: QQ}]}}",
    "providers: {x: {kind: openai, pools: [{models: [m], limits: {requests_per_minute: QQ}}]}}",
    "providers: {x: {kind: openai, pools: [{models: [m], limits: {QQ: 1}}]}}",
    "providers: {x: {kind: openai, pools: [{models: [m], limits: unknown, day_resets: QQ, headers: QQ}]}}",
    "providers: {x: {kind: openai, pools: [{models: [m], limits: unknown, api_key: QQ, name: QQ, debit: QQ}]}}",
    "providers: {x: {kind: openai, base_url: QQ, pools: [{models: [m], limits: unknown}]}}",
    "providers: {x: {kind: openai, base_url: 'http://QQ@h/', pools: [{models: [m], limits: unknown}]}}",
    "providers: {x: {kind: openai, base_url: 'http://h/?key=QQ', pools: [{models: [m], limits: unknown}]}}",
    "providers: {x: {kind: azure, pools: [{models: [m], limits: unknown, deployment: QQ, api_version: QQ}]}}",
    "providers: {x: {kind: openai, prices: {input: QQ}, pools: []}}",
    "providers: {x: {kind: openai, api_key: QQ: QQ}}",
    "providers: {x: {kind: openai, api_key: 'QQ",
    "providers: {x: {kind: openai, api_key: !QQ x}}",
]


@pytest.mark.parametrize("text", LEAVES)
def test_a_planted_key_never_appears_in_an_error(text: str) -> None:
    planted = "s" + "k-proj-" + secrets.token_urlsafe(30)
    with pytest.raises(ConfigurationError) as caught:
        parse_providers(text.replace("QQ", planted), "p.yaml")
    assert planted not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or planted not in repr(caught.value.__context__)


def test_a_literal_key_names_field_and_line() -> None:
    text = refused(pool("{models: [m], limits: unknown}", extra="api_key: hello"), SecretError)
    assert "p.yaml:4: providers.x.api_key: must be a reference such as ${env:NAME}" in text
    assert "hello" not in text


def test_the_json_schema_accepts_what_is_accepted_and_describes_every_key() -> None:
    schema = providers_json_schema()
    assert schema["title"] == "batch_llm providers file"
    validator = jsonschema_rs.Draft202012Validator(schema)
    for text in (FULL, DEFAULT_PROVIDERS):
        validator.validate(parse_yaml(text, "p").data)
    assert not validator.is_valid({"providers": {"x": {"kind": "openai", "api_key": "literal", "pools": []}}})
    for part in schema["$defs"].values():
        assert all("description" in field for field in part.get("properties", {}).values())


def test_the_reference_shows_the_default_file_and_examples_that_load(root: Path) -> None:
    page = (root / "docs" / "reference" / "providers-file.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert blocks[0] == DEFAULT_PROVIDERS
    assert find_pool(parse_providers(blocks[1], "page"), "openai", "gpt-4.1-mini")[1].prices is not None
    assert find_pool(parse_providers(blocks[2], "page"), "gemini", "gemini-2.5-flash")[1].day_resets is not None
    several = find_pools(parse_providers(blocks[3], "page"), "azure", "gpt-4.1-mini")[1]
    assert [pool.name for pool in several] == ["sweden", "france"]
    assert find_pool(parse_providers(blocks[4], "page"), "azure", "gpt-4.1-mini")[1].deployment == "my-mini"
    assert find_pool(parse_providers(blocks[5], "page"), "google", "gemini-2.5-pro")[1].project == "my-project"
    assert find_pool(parse_providers(blocks[6], "page"), "anthropic", "claude-haiku-4-5")[0].kind == "anthropic"
    for key in {*ProviderSpec.model_fields, *PoolSpec.model_fields, *LimitsSpec.model_fields, *PricesSpec.model_fields}:
        assert f"`{key}`" in page
