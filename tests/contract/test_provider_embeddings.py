"""Each kind's embeddings adapter on the simulator: vectors, usage, and each refusal over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretStr

from batch_llm.clock import ManualClock
from batch_llm.config.provider_kinds import kind_named
from batch_llm.errors import AuthenticationFailed, ErrorClass, ProviderError, QuotaExhausted
from batch_llm.providers.account import Account
from batch_llm.providers.base import EmbeddingProvider, EmbeddingRequest, Embeddings
from batch_llm.providers.call_size import CallSize
from batch_llm.providers.kind import ProviderKind
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector
from tests.contract.google_lab import token_endpoint

KEY = SecretStr("a-key-0123456789")


@dataclass(frozen=True)
class Case:
    """How one kind is asked at the simulator."""

    kind: str
    model: str  # what a request calls it
    named: str = ""  # what its answers call it
    project: str | None = None

    def account(self, simulator: Simulator) -> Account:
        base = simulator.origin if self.kind == "google" else simulator.base_url
        place = (None, None) if self.project is None else (self.project, "global")
        return Account("vendor", base, None if self.project else KEY, project=place[0], location=place[1])


CASES = {
    "simulator": Case("simulator", "small", named="simulator/small"),
    "google": Case("google", "simulator-small"),
    "google, vertex": Case("google", "simulator-text-embedding-005", project="my-project"),
}


class Opened(NamedTuple):
    """One kind's adapter on a simulator."""

    case: Case
    provider: EmbeddingProvider
    size: CallSize  # as the kind says it

    async def embed(self, *texts: str, total_s: float = 10, **params: Any) -> Embeddings:
        """One call, read from its stored body."""
        request = EmbeddingRequest("r-0-1", self.case.model, texts, params)
        return self.provider.read((await self.provider.send(request, total_s=total_s)).body)


Open = Callable[..., Awaitable[Opened]]


@pytest.fixture(params=list(CASES))
async def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Case]:
    """Each kind in turn; what signs it in is there."""
    found = CASES[request.param]
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    async with token_endpoint(tmp_path / "account.json"):
        yield found


@pytest.fixture
async def open_provider(case: Case) -> AsyncIterator[Open]:
    """Opens our adapter on a simulator with these settings; its clock stands still."""
    async with AsyncExitStack() as stack:

        async def opened(**config: Any) -> Opened:
            simulator = await stack.enter_async_context(Simulator(SimulatorConfig(**config), clock=ManualClock()))
            kind = kind_named(case.kind)
            assert isinstance(kind, ProviderKind) and kind.embeddings is not None
            account = case.account(simulator)
            provider = await stack.enter_async_context(kind.embeddings(account))
            return Opened(case, provider, kind.call_size(account, case.model))

        yield opened


async def test_every_text_gets_its_own_vector_and_the_call_one_usage(open_provider: Open, case: Case) -> None:
    provider = await open_provider(seed=3)
    texts = [f"text {number}" for number in range(min(provider.size.texts, 300) - 2)] + ["中 “ü”", "\n"]
    answer = await provider.embed(*texts)
    model = f"simulator/{case.model.removeprefix('simulator-')}"
    assert answer.vectors == tuple(unit_vector(text.encode(), model, 3, 1536) for text in texts)
    assert answer.usage is not None
    assert answer.usage.input_tokens == sum(-(-len(text.encode()) // 4) for text in texts)
    assert (answer.model, answer.cut) == (case.named, 0)


async def test_dimensions_are_asked_for(open_provider: Open) -> None:
    provider = await open_provider()
    assert [len(each) for each in (await provider.embed("a", "b", dimensions=32)).vectors] == [128, 128]


async def test_the_largest_call_is_answered(open_provider: Open) -> None:
    """As the kind says it, and no text more."""
    provider = await open_provider(embedding_dimensions=4)
    most = provider.size.texts
    text = "x" * (min(provider.size.tokens // most, provider.size.text_tokens) * 4)
    assert len((await provider.embed(*[text] * most)).vectors) == most
    with pytest.raises(ProviderError) as caught:
        await provider.embed(*["x"] * (most + 1))
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.INVALID_REQUEST, False)


@pytest.mark.parametrize(
    ("texts", "params", "expected"),
    [
        (("a", ""), {}, ErrorClass.INVALID_REQUEST),
        (("a",), {"dimensions": 9999}, ErrorClass.INVALID_REQUEST),
        (("a", "x" * 40_000), {}, ErrorClass.TOO_LARGE),
    ],
)
async def test_a_refused_request_is_classed_and_not_billed(
    open_provider: Open, texts: tuple[str, ...], params: dict[str, Any], expected: ErrorClass
) -> None:
    provider = await open_provider()
    with pytest.raises(ProviderError) as caught:
        await provider.embed(*texts, **params)
    assert (caught.value.error_class, caught.value.maybe_paid) == (expected, False)


@pytest.mark.parametrize("case", ["simulator", "google, vertex"], indirect=True)
async def test_texts_that_are_too_many_tokens_together_are_too_large(open_provider: Open) -> None:
    provider = await open_provider()
    size = provider.size
    with pytest.raises(ProviderError) as caught:
        await provider.embed(*["x" * size.text_tokens * 4] * (size.tokens // size.text_tokens + 1))
    assert (caught.value.error_class, caught.value.maybe_paid) == (ErrorClass.TOO_LARGE, False)


@pytest.mark.parametrize(
    ("config", "expected", "scope"),
    [
        ({"faults": {"rate_limit": 1}}, ErrorClass.RATE_LIMITED, "requests"),
        ({"faults": {"overloaded": 1}}, ErrorClass.OVERLOADED, None),
        ({"faults": {"server_error": 1}}, ErrorClass.SERVER_ERROR, None),
        ({"faults": {"reset": 1}}, ErrorClass.CONNECTION, None),
        ({"faults": {"truncated": 1}}, ErrorClass.CONNECTION, None),
        ({"faults": {"hang": 1}}, ErrorClass.TIMEOUT, None),
        ({"faults": {"malformed": 1}}, ErrorClass.MALFORMED, None),
    ],
)
async def test_what_goes_wrong_is_told_by_its_class(
    open_provider: Open, config: dict[str, Any], expected: ErrorClass, scope: str | None
) -> None:
    provider = await open_provider(**config)
    with pytest.raises(ProviderError) as caught:
        await provider.embed("text one", "two", total_s=0.3 if "hang" in str(config) else 10)
    assert (caught.value.error_class, caught.value.scope) == (expected, scope)


@pytest.mark.parametrize("case", ["simulator"], indirect=True)
async def test_a_call_larger_than_the_limit_itself_is_too_large(open_provider: Open) -> None:
    """Google says no more of it than of any other call."""
    provider = await open_provider(tokens_per_minute=2)
    with pytest.raises(ProviderError) as caught:
        await provider.embed("text one", "two")
    assert (caught.value.error_class, caught.value.scope) == (ErrorClass.TOO_LARGE, None)


@pytest.mark.parametrize("limit", ["requests", "tokens"])
async def test_a_limit_that_is_met_is_told_by_its_name_and_its_wait(
    open_provider: Open, limit: str, case: Case
) -> None:
    provider = await open_provider(**{f"{limit}_per_minute": {"requests": 1, "tokens": 3}[limit], "burst_s": 60})
    await provider.embed("text one", "two")
    with pytest.raises(ProviderError) as caught:
        await provider.embed("text one", "two")
    assert (caught.value.error_class, caught.value.scope) == (ErrorClass.RATE_LIMITED, limit)
    counts_texts = limit == "requests" and (case.kind, case.project) == ("google", None)
    assert caught.value.retry_after_s == (120 if counts_texts else 60)


async def test_stops_of_the_run_are_told_as_such(open_provider: Open) -> None:
    with pytest.raises(QuotaExhausted):
        await (await open_provider(quota_requests=0)).embed("a")
    with pytest.raises(AuthenticationFailed):
        await (await open_provider(api_key="another key than any")).embed("a")


async def test_vectors_that_are_missing_show_in_their_number(open_provider: Open) -> None:
    assert len((await (await open_provider(faults={"length": 1})).embed("a", "b", "c", "d")).vectors) == 2
    assert (await (await open_provider(faults={"empty": 1})).embed("a")).vectors == ()


async def test_a_usage_that_is_nonsense_is_unknown_and_the_vectors_are_good(open_provider: Open) -> None:
    provider = await open_provider(faults={"usage": 1})
    answers = [await provider.embed(f"row {number}") for number in range(20)]
    assert {answer.usage for answer in answers} == {None}
    assert all(len(answer.vectors) == 1 for answer in answers)
