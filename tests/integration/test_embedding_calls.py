"""The parts of an embedding job together on the simulator: pack, send, halve, judge, split the bill."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from decimal import Decimal

from pydantic import SecretStr

from batch_llm.engine.call_answers import CallJudge, StoredVectors
from batch_llm.engine.packing import CallBounds, halved, packed
from batch_llm.engine.shares import shared_cost_usd, shared_tokens
from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.limiter.base import Limits
from batch_llm.pricing import PriceList
from batch_llm.providers.base import EmbeddingRequest
from batch_llm.providers.openai_embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai_http import OpenAIEndpoint
from batch_llm.simulator import Simulator, SimulatorConfig
from batch_llm.simulator.vectors import unit_vector
from batch_llm.tokens import Tokens

MODEL = "text-embedding-3-small"
BAD = {13: "", 700: "word " * 9_000}  # refused as empty; too long by any count


@dataclass(frozen=True)
class Row:
    """As the engine would have it."""

    number: int
    text: str
    input_tokens: int

    @property
    def input_bytes(self) -> int:
        return len(self.text.encode())


@dataclass(frozen=True)
class Call:
    """A stored answer and the rows it answers."""

    rows: list[Row]
    body: bytes


async def test_all_parts_fit_together() -> None:
    """Every row its own vector, two bad rows failed alone, and the sums are the provider's own bill."""
    tokens, answer = Tokens(MODEL), EmbeddingAnswer(1536)
    assert tokens.exact
    texts = [BAD.get(number, f"row {number} " + "word " * (number % 40)) for number in range(1_500)]
    rows = [Row(number, text, tokens.count(text)) for number, text in enumerate(texts)]
    bounds = CallBounds.of(Limits("p", tokens_per_minute=1_000_000), answer.dimensions, exact=True)
    price = PriceList.for_embeddings("openai", MODEL)
    assert price is not None
    async with Simulator(SimulatorConfig(seed=2)) as simulator:
        endpoint = OpenAIEndpoint(simulator.base_url, SecretStr("any"), model_prefix="simulator/")
        async with OpenAIEmbeddingProvider("openai", endpoint) as provider:
            stored, failed = await _asked(provider, rows, bounds)
        stats = simulator.stats()
    assert failed == {13: ErrorClass.INVALID_REQUEST, 700: ErrorClass.TOO_LARGE}
    judge = CallJudge(provider, answer)
    vectors = StoredVectors(judge, lambda place: stored[place].body)
    found: dict[int, bytes | None] = dict.fromkeys(failed)
    used, paid = 0, Decimal(0)
    for place, call in enumerate(stored):
        verdict = judge.judge(call.body, len(call.rows))
        assert verdict.error_class is None and verdict.usage is not None
        shares = shared_tokens(verdict.usage.input_tokens, [row.input_tokens for row in call.rows])
        costs = shared_cost_usd(price.cost(verdict.usage.input_tokens, 0), shares)
        used, paid = used + sum(shares), paid + sum(costs)
        for position, row in enumerate(call.rows):
            found[row.number] = vectors.vector(place, position, len(call.rows))
    assert used == stats["input_tokens"]
    assert paid == sum(price.cost(sum(_billed(row) for row in call.rows), 0) for call in stored)
    assert stats["duplicates"]["extra_answers"] == 0
    column = answer.column([found[number] for number in range(len(rows))])
    for number in (0, 12, 13, 14, 699, 700, 701, 1_499):
        expected = struct.unpack("<1536f", unit_vector(texts[number].encode(), f"simulator/{MODEL}", 2, 1536))
        assert column[number].as_py() == (None if number in failed else list(expected))
    assert column.null_count == 2


async def _asked(
    provider: OpenAIEmbeddingProvider, rows: list[Row], bounds: CallBounds
) -> tuple[list[Call], dict[int, ErrorClass]]:
    """Ask all rows; the answers, and the class of each row that failed."""
    waiting, stored, failed = list(packed(rows, bounds)), [], {}
    while waiting:
        call = waiting.pop(0)
        request = EmbeddingRequest(f"r-0-{call[0].number}", MODEL, tuple(row.text for row in call), {})
        try:
            raw = await provider.send(request, total_s=30)
        except ProviderError as error:
            halves = halved(call, error.error_class)
            if not halves:
                failed[call[0].number] = error.error_class
            waiting = [*halves, *waiting]
        else:
            stored.append(Call(call, raw.body))
    return stored, failed


def _billed(row: Row) -> int:
    """What the simulator counts: four bytes are a token, rounded up."""
    return -(-row.input_bytes // 4)
