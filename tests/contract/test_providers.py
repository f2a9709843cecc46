"""What every kind of provider promises, each asked through the providers file as a job asks it.

The same account answers all of them: a simulator outside. A kind that a job can use stands in `KINDS`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
import yaml
from pydantic import SecretStr

from batch_llm.clock import ManualClock
from batch_llm.config.provider_kinds import kind_named, kind_names
from batch_llm.config.settings import Settings
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.limiter.headers import HeaderReader
from batch_llm.providers.base import Completion, EmbeddingRequest, Message, Provider, Request, Usage
from batch_llm.providers.kind import ProviderKind
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector
from batch_llm.targets import Target, targets_of
from tests.contract.google_lab import TOKEN, token_endpoint

KEY = "sk-" + "planted-0123456789-abcdefghij"
PARAMS = {
    "temperature": 0.5,
    "top_p": 0.9,
    "max_output_tokens": 60,
    "seed": 7,
    "stop": ["STOP"],
    "frequency_penalty": 0.1,
    "presence_penalty": 0.1,
    "reasoning_effort": "low",
}
SCHEMA = {
    "type": "object",
    "properties": {"tone": {"enum": ["calm", "tense"]}, "score": {"type": "number"}},
    "required": ["tone", "score"],
    "additionalProperties": False,
}

ANTHROPIC_CANNOT = frozenset({"seed", "frequency_penalty", "presence_penalty"})


@dataclass(frozen=True)
class Case:
    """A kind, and what its part of a providers file says when the simulator stands in for the vendor."""

    kind: str
    pool: dict[str, Any] = field(default_factory=dict)
    by_origin: bool = False  # asked at the simulator's address without the path
    name: str = "vendor"
    wire_model: str = "small"  # what the job calls it
    cannot: frozenset[str] = frozenset()  # of PARAMS, those that it has not; `plan` refuses them
    tokens: str = "tokens"  # what its limits per minute count

    @property
    def has_key(self) -> bool:
        """Whether it is asked with a key."""
        return self.kind != "simulator" and "project" not in self.pool

    def spec(self, simulator: Simulator) -> dict[str, Any]:
        """The provider's part of the file."""
        pool = {"models": [self.wire_model], "limits": {"requests_per_minute": 600_000}, **self.pool}
        base = simulator.origin if self.by_origin else simulator.base_url
        key = {"api_key": "${env:PLANTED_KEY}"} if self.has_key else {}
        return {"kind": self.kind, "base_url": base, "pools": [pool], **key}


KINDS = {
    "openai": Case("openai", wire_model="simulator/small"),
    "openai_compatible": Case("openai_compatible", wire_model="simulator/small"),
    "azure": Case("azure", {"deployment": "simulator-small"}, by_origin=True),
    "azure, dated": Case("azure", {"deployment": "simulator-small", "api_version": "2024-10-21"}, by_origin=True),
    "azure, old": Case("azure", {"deployment": "simulator-small", "api_version": "2024-02-01"}, by_origin=True),
    "google": Case("google", by_origin=True, wire_model="simulator-small"),
    "google, vertex": Case(
        "google", {"project": "my-project", "location": "global"}, by_origin=True, wire_model="simulator-small"
    ),
    "anthropic": Case(
        "anthropic", by_origin=True, wire_model="simulator/small", cannot=ANTHROPIC_CANNOT, tokens="input_tokens"
    ),
    "simulator": Case("simulator", name="simulator"),
}


class Asked:
    """One kind, opened on a simulator with some settings."""

    def __init__(self, target: Target, simulator: Simulator, provider: Provider) -> None:
        self.target = target
        self.simulator = simulator
        self.provider = provider

    async def ask(self, text: str = "hello", *, schema: Any = None, **params: Any) -> Completion:
        params.setdefault("max_output_tokens", 1_000)
        request = Request("r-0-1", self.target.model_name, (Message("user", text),), params, schema)
        return self.provider.read((await self.provider.send(request, total_s=10)).body)

    async def fails(self, text: str = "hello", **params: Any) -> ProviderError:
        with pytest.raises(ProviderError) as error:
            await self.ask(text, **params)
        assert KEY not in str(error.value)
        return error.value


Open = Callable[..., Awaitable[Asked]]


@pytest.fixture(params=list(KINDS))
async def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Case]:
    """Each kind in turn; its key is in the environment, or what signs it in."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    found = KINDS[request.param]
    if "project" not in found.pool:
        yield found
        return
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    async with token_endpoint(tmp_path / "account.json"):
        yield found


@pytest.fixture
async def open_kind(case: Case, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the kind on a simulator with these settings; its clock stands still."""
    async with AsyncExitStack() as stack:

        async def opened(**config: Any) -> Asked:
            settings = {"answer_tokens_median": 10, "answer_tokens_sigma": 0, **config}
            simulator = Simulator(SimulatorConfig(**settings), clock=ManualClock())
            await stack.enter_async_context(simulator)
            target = targeted(case, simulator, tmp_path)
            provider = await stack.enter_async_context(target.kind.chat(target.account(key_of(case))))
            return Asked(target, simulator, provider)

        yield opened


def targeted(case: Case, simulator: Simulator, folder: Path) -> Target:
    """Where the case's model is asked, as the providers file says."""
    path = folder / "providers.yaml"
    path.write_text(yaml.safe_dump({"providers": {case.name: case.spec(simulator)}}))
    settings = Settings(home=folder / "home", providers_path=path, cwd=folder)
    return targets_of(settings, f"{case.name}/{case.wire_model}")[0]


def key_of(case: Case) -> SecretStr | None:
    """The key, as wiring hands it over."""
    return SecretStr(KEY) if case.has_key else None


def test_every_kind_that_a_job_can_use_is_judged_here() -> None:
    assert {case.kind for case in KINDS.values()} == set(kind_names())


def test_a_kind_says_whose_headers_its_answers_carry(case: Case) -> None:
    kind = kind_named(case.kind)
    assert isinstance(kind, ProviderKind)
    HeaderReader(kind.headers)


async def test_all_give_the_same_answer_and_the_same_usage(open_kind: Open) -> None:
    asked = await open_kind()
    completion = await asked.ask("one two three four")
    async with openai.AsyncOpenAI(api_key="any", base_url=asked.simulator.base_url, max_retries=0) as plain:
        messages: Any = [{"role": "user", "content": "one two three four"}]
        told = await plain.chat.completions.create(model="simulator/small", messages=messages)
    assert completion.text == told.choices[0].message.content
    assert (completion.finish_reason, completion.model) == ("stop", "simulator/small")
    assert completion.usage == Usage(input_tokens=5, output_tokens=10)


async def test_every_parameter_of_a_job_is_taken_and_means_the_same(open_kind: Open, case: Case) -> None:
    """But for those that the kind says it cannot."""
    asked = await open_kind(answer_tokens_median=100)
    assert case.cannot == {name for name in asked.target.kind.cannot if "=" not in name}
    completion = await asked.ask(**{name: value for name, value in PARAMS.items() if name not in case.cannot})
    assert completion.finish_reason == "length"
    assert completion.usage is not None and completion.usage.output_tokens == 60
    if "seed" not in case.cannot:
        assert (await asked.ask(seed=8)).text != (await asked.ask(seed=9)).text


async def test_an_answer_keeps_to_its_schema(open_kind: Open) -> None:
    completion = await (await open_kind()).ask(schema=SCHEMA)
    answer = orjson.loads(completion.text)
    assert answer["tone"] in ("calm", "tense") and isinstance(answer["score"], float)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"faults": {"server_error": 1}}, ErrorClass.SERVER_ERROR),
        ({"faults": {"overloaded": 1}}, ErrorClass.OVERLOADED),
        ({"faults": {"reset": 1}}, ErrorClass.CONNECTION),
        ({"faults": {"truncated": 1}}, ErrorClass.CONNECTION),
        ({"faults": {"malformed": 1}}, ErrorClass.MALFORMED),
        ({"context_tokens": 2}, ErrorClass.TOO_LARGE),
        ({"faults": {"rate_limit": 1}, "fault_retry_after_s": 3}, ErrorClass.RATE_LIMITED),
    ],
)
async def test_what_goes_wrong_has_the_same_class(
    open_kind: Open, config: dict[str, Any], expected: ErrorClass
) -> None:
    error = await (await open_kind(**config)).fails("a prompt of several tokens")
    assert error.error_class is expected
    assert error.retry_after_s == (3 if expected is ErrorClass.RATE_LIMITED else None)


@pytest.mark.parametrize(("counted", "limit", "window_s"), [("requests", 60, 1), ("tokens", 30, 60)])
async def test_a_used_up_limit_is_told_by_its_name_and_its_wait(
    open_kind: Open, case: Case, counted: str, limit: int, window_s: int
) -> None:
    scope, wait_s = case.tokens if counted == "tokens" else counted, window_s
    limit = 15 if scope == "input_tokens" else limit
    asked = await open_kind(**{f"{scope}_per_minute": limit, "window_s": window_s})
    await asked.ask("x" * 40)
    error = await asked.fails("x" * 40)
    assert (error.error_class, error.scope) == (ErrorClass.RATE_LIMITED, scope)
    assert error.retry_after_s == pytest.approx(wait_s, abs=0.001)


async def test_used_up_credit_stops_the_run(open_kind: Open) -> None:
    with pytest.raises(QuotaExhausted):
        await (await open_kind(quota_requests=0)).ask()


async def test_a_refused_key_stops_the_run_and_is_nowhere(
    open_kind: Open, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AuthenticationFailed) as error:
        await (await open_kind(api_key="another key")).ask()
    assert KEY not in str(error.value) + caplog.text
    assert TOKEN not in str(error.value) + caplog.text
    assert error.value.__cause__ is None


@pytest.mark.parametrize("case", [name for name in KINDS if name != "simulator"], indirect=True)
async def test_an_unknown_model_stops_the_run(case: Case, tmp_path: Path) -> None:
    """Else every row of the table would be asked, to fail the same."""
    pool = {"models": ["simulator/"], **({"deployment": "none"} if case.kind == "azure" else {})}
    wrong = replace(case, pool={**case.pool, **pool}, wire_model="simulator/")
    async with Simulator() as simulator:
        target = targeted(wrong, simulator, tmp_path)
        async with target.kind.chat(target.account(key_of(case))) as provider:
            with pytest.raises(AuthenticationFailed, match="no such model, or not for this key"):
                await Asked(target, simulator, provider).ask()


@pytest.mark.parametrize("case", [name for name in KINDS if name.startswith("azure")], indirect=True)
async def test_azures_content_filter_is_a_class_of_its_own(open_kind: Open) -> None:
    asked = await open_kind(filtered_words=["poison"])
    assert (await asked.fails("how to poison a well")).error_class is ErrorClass.CONTENT_FILTER
    await asked.ask("how to dig a well")


@pytest.mark.parametrize("case", [name for name in KINDS if name not in ("anthropic", "google, vertex")], indirect=True)
async def test_vectors_are_the_same_and_so_is_their_usage(open_kind: Open, case: Case) -> None:
    asked = await open_kind()
    make = asked.target.kind.embeddings
    assert make is not None
    request = EmbeddingRequest("r-0-1", asked.target.model_name, ("one", "two two"), {"dimensions": 8})
    async with make(asked.target.account(key_of(case))) as provider:
        found = provider.read((await provider.send(request, total_s=10)).body)
    assert found.usage is not None and (found.usage.input_tokens, found.usage.output_tokens) == (3, 0)
    assert found.vectors == tuple(unit_vector(text.encode(), "simulator/small", 0, 8) for text in request.texts)
