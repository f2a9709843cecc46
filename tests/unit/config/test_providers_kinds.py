"""What the providers file says of one kind alone: Azure's deployments, Google's two doors."""

from __future__ import annotations

import pytest

from batch_llm.config.providers_file import (
    api_key_of,
    api_version_of,
    base_url_of,
    day_resets_of,
    debit_of,
    deployment_of,
    location_of,
    parse_providers,
    project_of,
    structure_of,
)
from batch_llm.errors import ProvidersFileError
from tests.unit.config.providers_lab import find_pool


def refused(text: str) -> str:
    with pytest.raises(ProvidersFileError) as error:
        parse_providers(text, "p.yaml")
    return str(error.value)


AZURE = """\
providers:
  west:
    kind: azure
    base_url: https://west.openai.azure.com
    pools:
      - models: ["*"]
        limits: unknown
      - name: mini
        models: [gpt-4.1-mini]
        deployment: my-mini
        api_version: 2024-10-21
        limits: {tokens_per_minute: 200000}
"""


def test_azures_deployments_and_versions() -> None:
    file = parse_providers(AZURE, "p.yaml")
    anything, mini = (find_pool(file, "west", model) for model in ("gpt-5", "gpt-4.1-mini"))
    assert (deployment_of(*anything), api_version_of(*anything)) == (None, None)
    assert (deployment_of(*mini), api_version_of(*mini)) == ("my-mini", "2024-10-21")
    assert (debit_of(*mini), structure_of(*mini)) == ("input_plus_max_tokens", "json_schema")
    assert api_key_of("west", *mini, {}) is None  # it signs in


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    base_url: https://west.openai.azure.com\n",
            "",
            "base_url: is required for kind azure: base_url: https://N",
        ),
        ("my-mini", "my/mini", "deployment: 'my/mini' does not fit: Azure's deployment name"),
        ("2024-10-21", "latest", "api_version: 'latest' does not fit: The dated version of Azure's API"),
        ("[gpt-4.1-mini]", "[gpt-4.1-mini, gpt-4.1]", "pools[1].models: a deployment is of one model: name that one"),
    ],
)
def test_what_azure_does_not_take_is_told(old: str, new: str, said: str) -> None:
    assert said in refused(AZURE.replace(old, new))


def azure(*pools: str) -> str:
    """Two pools of one resource, unless they say otherwise."""
    listed = "".join(f"      - {{{pool}, limits: unknown}}\n" for pool in pools)
    return f"providers:\n  x:\n    kind: azure\n    base_url: https://x.openai.azure.com\n    pools:\n{listed}"


WEST = "models: [m], name: a"


@pytest.mark.parametrize(
    "other",
    [
        "models: [m], name: b, deployment: m",
        "models: [m], name: b, deployment: M",
        "models: [m], name: b, api_key: '${env:SECOND_KEY}'",
        "models: [m], name: b, base_url: 'https://X.openai.azure.com/openai/v1/'",
        "models: [m], name: b, base_url: 'https://x.services.ai.azure.com'",
    ],
)
def test_an_azure_deployment_in_two_pools_has_one_limit_whatever_it_is_called(other: str) -> None:
    assert "one account, one limit" in refused(azure(WEST, other))


@pytest.mark.parametrize(
    "other",
    [
        "models: [m], name: b, deployment: second",
        "models: [m], name: b, base_url: 'https://y.openai.azure.com'",
        "models: [k], name: b",
    ],
)
def test_azure_deployments_beside_one_another(other: str) -> None:
    assert len(parse_providers(azure(WEST, other), "p.yaml").providers["x"].pools) == 2


def test_one_azure_deployment_for_two_models_is_told_with_both_places() -> None:
    text = refused(azure("models: [m], name: a, deployment: d", "models: [k], name: b, deployment: d"))
    assert text == (
        "p.yaml:7: providers.x.pools[1].models[0]: the deployment 'd' answers for 'k' here and for 'm' in "
        "p.yaml:6: providers.x.pools[0].models[0]: it is of one model and has one limit; give each its `deployment`"
    )
    assert "answers for 'm' here" in refused(azure("models: [k], name: a", "models: [m], name: b, deployment: k"))


def test_two_resources_behind_one_gateway_are_two() -> None:
    pools = [f"models: [m], name: {name}, base_url: 'https://gateway/{name}/openai'" for name in "ab"]
    assert len(parse_providers(azure(*pools), "p.yaml").providers["x"].pools) == 2


GOOGLE = """\
providers:
  google:
    kind: google
    pools:
      - models: [gemini-2.5-flash]
        api_key: ${env:GEMINI_API_KEY}
        limits: {requests_per_minute: 10, input_tokens_per_minute: 250000, requests_per_day: 250}
      - name: vertex
        models: [gemini-2.5-pro]
        project: my-project
        location: europe-west4
        limits: unknown
"""


def test_googles_two_doors() -> None:
    file = parse_providers(GOOGLE, "p.yaml")
    gemini, vertex = (find_pool(file, "google", f"gemini-2.5-{size}") for size in ("flash", "pro"))
    assert base_url_of(*gemini) == "https://generativelanguage.googleapis.com"
    assert base_url_of(*vertex) == "https://europe-west4-aiplatform.googleapis.com"
    assert (project_of(*vertex), location_of(*vertex)) == ("my-project", "europe-west4")
    assert api_key_of("google", *vertex, {}) is None  # it signs in
    assert {day_resets_of(*pool) for pool in (gemini, vertex)} == {"America/Los_Angeles"}
    assert (debit_of(*gemini), structure_of(*gemini)) == ("actual", "json_schema")


@pytest.mark.parametrize(
    ("location", "url"),
    [("global", "https://aiplatform.googleapis.com"), ("eu", "https://aiplatform.eu.rep.googleapis.com")],
)
def test_vertex_has_an_address_per_location(location: str, url: str) -> None:
    file = parse_providers(GOOGLE.replace("europe-west4", location), "p.yaml")
    assert base_url_of(*find_pool(file, "google", "gemini-2.5-pro")) == url


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "        api_key: ${env:GEMINI_API_KEY}\n",
            "",
            "api_key: is required for kind google: api_key: ${env:GOOGLE_API_KEY}",
        ),
        ("        location: europe-west4\n", "", "location: is required beside `project`: location: global"),
        ("        project: my-project\n", "        api_key: ${env:K}\n", "project: is required beside `location`"),
        ("europe-west4", "europe-west4\n        api_key: ${env:K}", "signs in with application-default credentials"),
        ("my-project", "my/project", "project: 'my/project' does not fit: A Google Cloud project's id"),
        ("europe-west4", "eu/west", "location: 'eu/west' does not fit: Where Vertex AI is asked"),
    ],
)
def test_what_google_does_not_take_is_told(old: str, new: str, said: str) -> None:
    assert said in refused(GOOGLE.replace(old, new))
