"""The same job through every kind of provider: the same rows, the same bill, and the key nowhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web

from batch_llm import wiring
from batch_llm.config.secrets import scrub
from batch_llm.errors import AuthenticationFailed, BudgetExhausted, ConfigurationError, JobFileError
from batch_llm.limiter.base import Tenant
from batch_llm.paced_client import PacedCalls
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.contract.google_lab import token_endpoint
from tests.integration.engine_lab import write_input
from tests.integration.lab import Lab
from tests.local_server import served

KEY = "sk-" + "planted-0123456789-abcdefghij"
POOL = {"limits": {"requests_per_minute": 6_000}, "prices": {"input": "1.00", "output": "2.00"}}
KINDS: dict[str, dict[str, Any]] = {
    "openai": {"models": ["simulator/small"]},
    "openai_compatible": {"models": ["simulator/small"]},
    "anthropic": {"models": ["simulator/small"]},
    "azure": {"models": ["small"], "deployment": "simulator-small"},
    "azure, dated": {"models": ["small"], "deployment": "simulator-small", "api_version": "2024-10-21"},
    "google": {"models": ["simulator-small"]},
}
VECTORS: dict[str, Any] = {
    "kind": "embedding",
    "params": {"dimensions": 8},
    "prompt": {"user": "{{ text }}"},
    "output": {"table": "o"},
}
# what a row is asked and answered, and what it costs; not who answered it
SAME = ("id", "tone", "score", "llm_status", "llm_input_tokens", "llm_output_tokens", "llm_cost_usd", "llm_attempts")


def declared(lab: Lab, simulator: Simulator, kind: str) -> str:
    """Write the providers file for this kind; the job's model."""
    name, pool = kind.split(",", maxsplit=1)[0], {**POOL, **KINDS[kind]}
    base = simulator.origin if name in ("azure", "google", "anthropic") else simulator.base_url
    spec = {"kind": name, "base_url": base, "api_key": "${env:PLANTED_KEY}", "pools": [pool]}
    lab.settings.providers_path.write_text(yaml.safe_dump({"providers": {"vendor": spec}}))
    return f"vendor/{pool['models'][0]}"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Forty rows; the key is in the environment."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    made = Lab(tmp_path)
    made.table(40)
    return made


async def test_the_same_job_gives_the_same_rows_and_the_same_bill(lab: Lab) -> None:
    seen = {}
    async with Simulator(SimulatorConfig()) as simulator:
        lab.providers(simulator.base_url, POOL["limits"])
        await lab.run(lab.job())
        expected = [{name: row[name] for name in SAME} for row in lab.rows()]
        for kind in KINDS:
            output = {**lab.job().job.output.model_dump(by_alias=True), "table": "out_" + str(len(seen))}
            model = declared(lab, simulator, kind)
            summary = await lab.run(lab.job(model=model, output=output, cache="off"))
            assert summary.ok == 40
            seen[kind] = [{name: row[name] for name in SAME} for row in lab.rows(output["table"])]
        assert simulator.stats()["rejected"] == {}
    assert len(expected) == 40
    for kind, rows in seen.items():
        assert rows == expected, kind


@pytest.mark.parametrize("window_s", [1, 10])
async def test_azures_short_windows_are_kept_to(lab: Lab, window_s: int) -> None:
    """With nothing said of windows: rows go out evenly, and each takes its whole cap off the tokens."""
    account = SimulatorConfig(
        requests_per_minute=1_200,
        tokens_per_minute=600_000,
        window_s=window_s,
        token_window_s=60,
        debit="input_plus_max_tokens",
    )
    async with Simulator(account) as simulator:
        model = declared(lab, simulator, "azure")
        text = lab.settings.providers_path.read_text().replace("6000", "1200\n        tokens_per_minute: 600000")
        lab.settings.providers_path.write_text(text)
        summary = await lab.run(lab.job(model=model))
        rejected = sum(simulator.stats()["rejected"].values())
    assert summary.ok == 40
    assert rejected <= 1, rejected  # on a busy machine one call may arrive late, in the next window


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_key_that_is_refused_is_in_no_file_and_no_message(lab: Lab, kind: str) -> None:
    async with Simulator(SimulatorConfig(api_key="another key")) as simulator:
        model = declared(lab, simulator, kind)
        summary = await lab.run(lab.job(model=model))
        assert summary.ok == 0
    told = " ".join(map(str, [*lab.events, summary]))
    assert KEY not in told
    for path in lab.folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("kind", ["google", "openai"])
async def test_a_job_of_vectors_keeps_to_the_limit_on_requests_as_its_provider_counts_it(lab: Lab, kind: str) -> None:
    """Google counts each text of a call."""
    lab.table(300)
    async with Simulator(SimulatorConfig(requests_per_minute=6_000)) as simulator:
        summary = await lab.run(lab.job(**{**VECTORS, "model": declared(lab, simulator, kind)}))
        stats = simulator.stats()
    assert (summary.ok, stats["rejected"]) == (300, {})
    assert summary.requests == {"google": 3, "openai": 1}[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("anthropic", "google")])
async def test_a_users_own_asset_asks_every_kind_with_the_openai_sdk(lab: Lab, kind: str) -> None:
    async with Simulator(SimulatorConfig()) as simulator:
        model = declared(lab, simulator, kind)
        calls = PacedCalls(lambda: wiring.paced_provider(lab.settings, model), Tenant("me", "notebook"))
        messages: Any = [{"role": "user", "content": "hello"}]
        answer = await calls.openai_client().chat.completions.create(
            model=model.removeprefix("vendor/"), messages=messages
        )
        ours = await calls.complete("hello")
    assert answer.choices[0].message.content == ours.text
    assert scrub(KEY) != KEY


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        (
            "gemini-2.0-flash",
            {"reasoning_effort": "low"},
            "params.reasoning_effort: provider 'vendor' (kind google) cannot do this: gemini-2.0-flash does not think",
        ),
        ("gemini-2.5-flash", {"frequency_penalty": 0.5}, "params.frequency_penalty: provider 'vendor' (kind google) c"),
        ("gemini-flash-latest", {"presence_penalty": -1}, "gemini-flash-latest takes no penalty; remove it"),
        ("gemini-2.0-flash", {"seed": 2**31}, "(kind google) takes at most 2,147,483,647, got 2,147,483,648"),
    ],
)
def test_what_a_model_of_googles_does_not_take_is_refused_by_plan(
    lab: Lab, model: str, params: dict[str, Any], said: str
) -> None:
    """With the line of the parameter, the model and the provider."""
    google(lab)
    with pytest.raises(JobFileError) as error:
        wiring.planner(lab.settings, lab.job(model=f"vendor/{model}", params=params))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("gemini-2.5-flash", {"reasoning_effort": "low", "frequency_penalty": 0, "seed": 2**31 - 1}),
        ("gemini-2.0-flash", {"frequency_penalty": 0.5}),
    ],
)
def test_what_a_model_of_googles_takes_is_planned(lab: Lab, model: str, params: dict[str, Any]) -> None:
    google(lab)
    wiring.planner(lab.settings, lab.job(model=f"vendor/{model}", params=params))


def google(lab: Lab) -> None:
    """Any model of Google's."""
    spec = {"kind": "google", "api_key": "${env:PLANTED_KEY}", "pools": [{"models": ["*"], "limits": "unknown"}]}
    lab.settings.providers_path.write_text(yaml.safe_dump({"providers": {"vendor": spec}}))


@pytest.fixture
async def signed_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[None]:
    """There are application-default credentials."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    async with token_endpoint(tmp_path / "account.json"):
        yield


def vertex(lab: Lab, origin: str, model: str) -> str:
    """A project at the simulator; what a job calls its model."""
    pools = [{**POOL, "models": [model], "project": "my-project", "location": "global"}]
    spec = {"kind": "google", "base_url": origin, "pools": pools}
    lab.settings.providers_path.write_text(yaml.safe_dump({"providers": {"vendor": spec}}))
    return f"vendor/{model}"


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize(
    ("model", "calls"),
    [
        ("simulator-text-embedding-005", (2, 60)),  # 250 rows of a call
        ("simulator-gemini-embedding-001", (300, 300)),
        ("simulator-gemini-embedding-2", (300, 300)),
    ],
)
async def test_a_project_is_asked_for_vectors_as_many_at_once_as_its_model_takes(
    lab: Lab, model: str, calls: tuple[int, int]
) -> None:
    lab.table(300)
    async with Simulator(SimulatorConfig()) as simulator:
        summary = await lab.run(lab.job(model=vertex(lab, simulator.origin, model), **VECTORS))
        assert (summary.ok, simulator.stats()["rejected"]) == (300, {})
        assert calls[0] <= simulator.stats()["accepted"] <= calls[1]
    assert all(row["llm_input_tokens"] for row in lab.rows("o"))


@pytest.mark.usefixtures("signed_in")
@pytest.mark.parametrize("cuts", [False, True])
async def test_a_text_too_long_for_its_model_fails_alone_whether_it_is_refused_or_cut(lab: Lab, cuts: bool) -> None:
    """2,048 tokens are the most of one text. A gateway may drop the word that none is to be cut."""
    texts = [f"text {number}" for number in range(32)]
    texts[9] = "x" * 9_000
    write_input(lab, id=list(range(32)), text=texts, extra=[0] * 32)
    async with Simulator(SimulatorConfig()) as simulator, cutting(simulator) as gateway:
        model = vertex(lab, gateway if cuts else simulator.origin, "simulator-text-embedding-005")
        summary = await lab.run(lab.job(model=model, **VECTORS))
    rows = {row["id"]: row for row in lab.rows("o")}
    assert (summary.ok, summary.failed, rows[9]["llm_error_class"]) == (31, 1, "too_large")
    assert all(row["embedding"] is None if at == 9 else len(row["embedding"]) == 8 for at, row in rows.items())
    assert ("read only the beginning of 1" in rows[9]["llm_error"]) == cuts


@asynccontextmanager
async def cutting(simulator: Simulator) -> AsyncIterator[str]:
    """A gateway that passes on everything but `autoTruncate`."""

    async def pass_on(request: web.Request) -> web.Response:
        asked = await request.json()
        del asked["parameters"]["autoTruncate"]
        headers = {"Authorization": request.headers["Authorization"]}
        async with ClientSession(headers=headers) as session:
            answer = await session.post(simulator.origin + request.path, json=asked)
            return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")

    app = web.Application(client_max_size=1 << 20)
    app.router.add_post("/{path:.*}", pass_on)
    async with served(app) as host:
        yield f"http://{host}"


async def test_a_job_for_vectors_never_asks_google_for_more_than_a_hundred(lab: Lab) -> None:
    """Forty rows are one call, two hundred and fifty at least three."""
    lab.table(250)
    async with Simulator(SimulatorConfig()) as simulator:
        model = declared(lab, simulator, "google")
        summary = await lab.run(lab.job(model=model, **VECTORS))
        assert (summary.ok, simulator.stats()["rejected"]) == (250, {})
        assert simulator.stats()["accepted"] >= 3
    assert all(row["llm_input_tokens"] for row in lab.rows("o"))


async def test_the_openai_sdk_is_not_for_anthropic(lab: Lab) -> None:
    """Its own way of asking is."""
    async with Simulator(SimulatorConfig()) as simulator:
        model = declared(lab, simulator, "anthropic")
        calls = PacedCalls(lambda: wiring.paced_provider(lab.settings, model), Tenant("me", "notebook"))
        assert (await calls.complete("hello", max_output_tokens=100)).finish_reason == "stop"
        messages: Any = [{"role": "user", "content": "hello"}]
        with pytest.raises(ConfigurationError, match="does not speak as OpenAI does"):
            await calls.openai_client().chat.completions.create(model="simulator/small", messages=messages)


async def test_a_schema_that_is_refused_before_it_is_sent_holds_no_money(lab: Lab) -> None:
    async with Simulator(SimulatorConfig()) as simulator:
        calls = budgeted(lab, declared(lab, simulator, "anthropic"), Decimal("0.03"))
        async with calls.opened():
            with pytest.raises(ConfigurationError, match="no object of free keys"):
                await calls.complete("hello", max_output_tokens=10_000, json_schema={"type": "object"})
            assert (await calls.complete("hello", max_output_tokens=10_000)).text


async def test_a_budget_covers_all_answers_that_the_sdk_asks_for_at_once_and_nothing_uncounted(lab: Lab) -> None:
    async with Simulator(SimulatorConfig()) as simulator:
        calls = budgeted(lab, declared(lab, simulator, "openai"), Decimal("0.001"))
        ask = partial(calls.openai_client().chat.completions.create, model="simulator/small", max_completion_tokens=100)
        text: Any = [{"role": "user", "content": "hello"}]
        file: Any = [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]
        with pytest.raises(BudgetExhausted):
            await ask(messages=text, n=8)
        with pytest.raises(ConfigurationError, match="a part of type file: what it costs is not known"):
            await ask(messages=file)
        assert (await ask(messages=text)).choices
        assert simulator.stats()["accepted"] == 1


def budgeted(lab: Lab, model: str, budget_usd: Decimal) -> PacedCalls:
    """Calls of a user's own, with a budget."""
    opener = partial(wiring.paced_provider, lab.settings, model, budget_usd=budget_usd)
    return PacedCalls(opener, Tenant("me", "notebook"))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"max_output_tokens": 9, "seed": 1}, "params.seed: provider 'vendor' (kind anthropic) cannot do this"),
        ({"max_output_tokens": 9, "temperature": 1.5}, "params.temperature: provider 'vendor' (kind anthropic) takes"),
        ({"max_output_tokens": 9, "reasoning_effort": "minimal"}, "its least effort is low; change it"),
        ({"max_output_tokens": 9, "stop": ["END", "\n\n"]}, "it takes no text of white space alone; remove it"),
        ({"max_output_tokens": 9, "temperature": 0, "top_p": 0.9}, "it takes temperature or top_p, not both"),
        ({"max_output_tokens": "auto"}, "it wants a number with the first request"),
        ({}, "params.max_output_tokens: provider 'vendor' (kind anthropic) wants it with every request; give it"),
    ],
)
async def test_what_anthropic_cannot_do_is_refused_by_plan(lab: Lab, params: dict[str, Any], said: str) -> None:
    async with Simulator() as simulator:
        model = declared(lab, simulator, "anthropic")
    with pytest.raises(JobFileError) as error:
        wiring.planner(lab.settings, lab.job(model=model, params=params))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        (
            "claude-opus-4-7",
            {"temperature": 0},
            "params.temperature: provider 'vendor' (kind anthropic) cannot do this",
        ),
        ("claude-sonnet-5", {"top_p": 0.5}, "claude-sonnet-5 takes none but 1; remove it"),
        ("claude-opus-5-5", {"temperature": 1, "reasoning_effort": "low"}, None),
        ("claude-haiku-4-5-20251001", {"temperature": 0}, None),
        ("claude-haiku-4-5-20251001", {"reasoning_effort": "low"}, "claude-haiku-4-5-20251001 has no efforts"),
        ("claude-sonnet-4-5", {"reasoning_effort": "low"}, "claude-sonnet-4-5 has no efforts"),
        ("claude-sonnet-4-20250514", {"reasoning_effort": "low"}, "claude-sonnet-4-20250514 has no efforts"),
        ("claude-opus-4-1", {"reasoning_effort": "low"}, "claude-opus-4-1 has no efforts"),
        ("claude-opus-4-5", {"reasoning_effort": "low", "temperature": 0}, None),
        ("claude-sonnet-4-6", {"reasoning_effort": "low"}, None),
    ],
)
def test_what_a_model_of_anthropics_does_not_take_is_refused_by_plan(
    lab: Lab, model: str, params: dict[str, Any], said: str | None
) -> None:
    spec = {"kind": "anthropic", "api_key": "${env:PLANTED_KEY}", "pools": [{"models": ["*"], "limits": "unknown"}]}
    lab.settings.providers_path.write_text(yaml.safe_dump({"providers": {"vendor": spec}}))
    job = lab.job(model=f"vendor/{model}", params={"max_output_tokens": 9, **params})
    if said is None:
        wiring.planner(lab.settings, job)
        return
    with pytest.raises(JobFileError) as error:
        wiring.planner(lab.settings, job)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("vendor", "openai", "gpt-4.1-mini"),
        ("vendor", "azure", "gpt-4.1-mini"),
        ("vendor", "google", "gemini-2.5-flash"),
        ("vendor", "anthropic", "claude-haiku-4-5"),
        ("groq", "openai_compatible", "llama-3.3-70b-versatile"),
    ],
)
def test_a_vendors_model_has_its_price_whatever_the_file_calls_the_account(
    lab: Lab, name: str, kind: str, model: str
) -> None:
    """Of a compatible server only its name tells whose prices hold."""
    pools = [{"models": ["*"], "limits": "unknown"}]
    spec = {"kind": kind, "base_url": "https://api.example.com", "api_key": "${env:PLANTED_KEY}", "pools": pools}
    lab.settings.providers_path.write_text(yaml.safe_dump({"providers": {name: spec}}))
    job = lab.job(model=f"{name}/{model}", params={"max_output_tokens": 9})
    plan = wiring.planner(lab.settings, job).plan()
    assert plan.cost_expected_usd is not None and plan.cost_expected_usd > 0


async def test_azure_without_a_key_signs_in_before_anything_is_asked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is signed in here: the run ends before its first call, and says what to do."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    async with Simulator() as simulator:
        model = declared(lab, simulator, "azure")
        text = lab.settings.providers_path.read_text().replace(
            "api_key: ${env:PLANTED_KEY}", "idempotency_header: Once"
        )
        lab.settings.providers_path.write_text(text)
        with pytest.raises(AuthenticationFailed, match="Entra ID gave no token"):
            await lab.run(lab.job(model=model))
        assert simulator.stats()["accepted"] == 0
