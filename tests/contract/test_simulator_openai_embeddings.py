"""The simulator's embeddings, judged by the vendor's own client: vectors, refusals, limits, faults, statistics.

Belongs here: what a user of the real API would notice. Not here: chat completions (the files beside this one).
"""

import json
import math
import struct
from typing import Any

import openai
import pytest

from batch_llm.clock import ManualClock
from batch_llm.simulator.vectors import unit_vector
from tests.contract.simulator_lab import FAULTS, MODEL, Open, embed

REFERENCE = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."


async def test_every_text_gets_a_vector_of_length_one_in_its_place(open_simulator: Open) -> None:
    _, client = await open_simulator(seed=7)
    answer = await embed(client, ["one", "two", "drei — 中"])
    assert (answer.object, answer.model) == ("list", MODEL)
    assert [(each.object, each.index) for each in answer.data] == [("embedding", 0), ("embedding", 1), ("embedding", 2)]
    for each, text in zip(answer.data, ["one", "two", "drei — 中"], strict=True):
        assert len(each.embedding) == 1536
        assert math.hypot(*each.embedding) == pytest.approx(1, abs=1e-6)
        expected = struct.unpack("<1536f", unit_vector(text.encode(), MODEL, 7, 1536))
        assert tuple(each.embedding) == expected
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)  # 1 + 1 + 3, each rounded up
    assert answer._request_id.startswith("req_")


async def test_base64_is_what_the_client_asks_for_and_floats_are_the_same_numbers(open_simulator: Open) -> None:
    """The client decodes base64 unless a format was named."""
    _, client = await open_simulator()
    plain = await embed(client, "one", encoding_format="float")
    coded = await embed(client, "one")
    text = await embed(client, "one", encoding_format="base64")
    assert isinstance(text.data[0].embedding, str) and len(text.data[0].embedding) == 4 * 1536 * 4 // 3
    packed = [struct.unpack("<f", struct.pack("<f", value))[0] for value in plain.data[0].embedding]
    assert packed == list(coded.data[0].embedding)


async def test_a_vector_depends_on_text_model_and_seed_and_on_nothing_else(open_simulator: Open) -> None:
    _, client = await open_simulator()
    _, other = await open_simulator(seed=1)
    first = (await embed(client, ["same", "other"])).data
    again = (await embed(client, ["other", "same"])).data
    assert first[0].embedding == again[1].embedding != first[1].embedding
    assert (await embed(client, "same", model="simulator/large")).data[0].embedding != first[0].embedding
    assert (await embed(other, "same")).data[0].embedding != first[0].embedding


async def test_fewer_dimensions_are_the_beginning_of_the_vector_brought_to_length_one(open_simulator: Open) -> None:
    _, client = await open_simulator(embedding_dimensions=64)
    whole = (await embed(client, "text")).data[0].embedding
    short = (await embed(client, "text", dimensions=16)).data[0].embedding
    assert (len(whole), len(short)) == (64, 16)
    length = math.hypot(*whole[:16])
    assert short == pytest.approx([value / length for value in whole[:16]], abs=1e-6)


async def test_openais_own_models_have_their_own_sizes(open_simulator: Open) -> None:
    _, client = await open_simulator(embedding_dimensions=8)
    sizes = {}
    for name in ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002", "small"):
        sizes[name] = len((await embed(client, model=f"simulator/{name}")).data[0].embedding)
    assert list(sizes.values()) == [1536, 3072, 1536, 8]


async def test_tokens_are_taken_in_the_place_of_texts(open_simulator: Open) -> None:
    _, client = await open_simulator()
    one = await embed(client, [15339, 1917])
    two = await embed(client, [[15339, 1917], [1]])
    assert (len(one.data), len(two.data)) == (1, 2)
    assert one.data[0].embedding == two.data[0].embedding
    assert (one.usage.prompt_tokens, two.usage.prompt_tokens) == (2, 3)
    assert (await embed(client, [[1] * 8192])).usage.prompt_tokens == 8192


@pytest.mark.parametrize("texts", ["", [], [""], ["a", ""], [[]], ["a", 1], [[-1]], ["x"] * 2049, [{"text": "a"}]])
async def test_an_input_that_is_empty_or_too_many_is_refused_whole(open_simulator: Open, texts: Any) -> None:
    simulator, client = await open_simulator()
    with pytest.raises(openai.BadRequestError) as error:
        await client.post("/embeddings", body={"model": MODEL, "input": texts}, cast_to=object)
    assert (error.value.body, error.value.param) == (
        {"message": REFERENCE, "type": "invalid_request_error", "param": None, "code": None},
        None,
    )
    stats = simulator.stats()
    assert (stats["accepted"], stats["rejected"]) == (0, {"invalid_request": 1})


async def test_the_largest_number_of_inputs_is_answered(open_simulator: Open) -> None:
    _, client = await open_simulator(embedding_dimensions=2)
    answer = await embed(client, [f"row {number}" for number in range(2048)])
    assert [each.index for each in answer.data] == list(range(2048))


async def test_an_input_of_more_than_8192_tokens_is_refused_by_its_place(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    await embed(client, ["short", "x" * 4 * 8192])
    with pytest.raises(openai.BadRequestError, match=r"Invalid 'input\[1\]': maximum input length is 8192 tokens\."):
        await embed(client, ["short", "x" * 4 * 8193])
    with pytest.raises(openai.BadRequestError, match=r"Invalid 'input\[0\]': maximum input length is 8192 tokens\."):
        await embed(client, [[1] * 8193])
    assert simulator.stats()["rejected"] == {"context_length_exceeded": 2}


async def test_more_than_300000_tokens_together_are_refused(open_simulator: Open) -> None:
    _, client = await open_simulator(embedding_dimensions=1)
    await embed(client, ["x" * 4 * 5000] * 60)
    with pytest.raises(openai.BadRequestError) as error:
        await embed(client, [*["x" * 4 * 5000] * 60, "x"])
    assert (error.value.code, error.value.type) == ("max_tokens_per_request", "max_tokens_per_request")
    assert "Requested 300001 tokens, max 300000 tokens per request" in str(error.value)


@pytest.mark.parametrize(
    ("body", "param", "code", "words"),
    [
        ({"model": MODEL}, "input", "missing_required_parameter", "Missing"),
        ({"model": MODEL, "input": 7}, "input", "invalid_type", "expected one of a string"),
        ({"input": "a"}, None, None, "you must provide a model parameter"),
        ({"model": MODEL, "input": "a", "temperature": 0}, "temperature", "unknown_parameter", "Unknown parameter"),
        ({"model": MODEL, "input": "a", "dimensions": 0}, "dimensions", "integer_below_min_value", ">= 1"),
        ({"model": MODEL, "input": "a", "dimensions": 1537}, "dimensions", "integer_above_max_value", "<= 1536"),
        ({"model": MODEL, "input": "a", "dimensions": "9"}, "dimensions", "invalid_type", "an integer"),
        (
            {"model": MODEL, "input": "a", "encoding_format": "md5"},
            None,
            None,
            "Invalid value for 'encoding_format' = md5. Supported values: ['float', 'base64'].",
        ),
        (
            {"model": "simulator/text-embedding-ada-002", "input": "a", "dimensions": 1536},
            None,
            None,
            "This model does not support specifying dimensions.",
        ),
    ],
)
async def test_a_bad_request_is_a_400_that_says_what_is_wrong(
    open_simulator: Open, body: dict[str, Any], param: str | None, code: str | None, words: str
) -> None:
    simulator, client = await open_simulator()
    with pytest.raises(openai.BadRequestError) as error:
        await client.post("/embeddings", body=body, cast_to=object)
    assert (error.value.param, error.value.code, error.value.type) == (param, code, "invalid_request_error")
    assert words in str(error.value)
    assert simulator.stats()["accepted"] == 0


async def test_a_real_model_is_never_answered(open_simulator: Open) -> None:
    _, client = await open_simulator()
    with pytest.raises(openai.NotFoundError):
        await embed(client, model="text-embedding-3-small")


async def test_the_key_is_checked(open_simulator: Open) -> None:
    _, client = await open_simulator(key="wrong", api_key="right")
    with pytest.raises(openai.AuthenticationError):
        await embed(client)


async def test_the_limits_of_the_account_hold(open_simulator: Open) -> None:
    """One request, whatever it holds; the tokens of all its inputs; shared with the chat."""
    clock = ManualClock()
    simulator, client = await open_simulator(clock=clock, requests_per_minute=3, tokens_per_minute=600, burst_s=60)
    raw = await client.embeddings.with_raw_response.create(model=MODEL, input=["x" * 800, "x" * 800])
    assert raw.headers["x-ratelimit-remaining-tokens"] == "200"
    assert raw.headers["x-ratelimit-remaining-requests"] == "2"
    with pytest.raises(openai.RateLimitError) as error:
        await embed(client, ["x" * 800, "x" * 400])
    assert "on tokens per min (TPM): Limit 600, Used 400, Requested 300. Please try again in 10s." in str(error.value)
    with pytest.raises(openai.RateLimitError, match="Request too large for simulator/small"):
        await embed(client, ["x" * 2000, "x" * 2000])
    await clock.advance(60)
    for _ in range(3):
        await embed(client)
    with pytest.raises(openai.RateLimitError, match="on requests per min"):
        await embed(client)
    assert simulator.stats()["rejected"] == {"tokens_per_minute": 1, "too_large": 1, "requests_per_minute": 1}


async def test_credit_ends(open_simulator: Open) -> None:
    _, client = await open_simulator(quota_requests=1)
    await embed(client)
    with pytest.raises(openai.RateLimitError) as error:
        await embed(client)
    assert error.value.code == "insufficient_quota"


@pytest.mark.parametrize(("kind", "expected", "status"), FAULTS)
async def test_a_fault_reaches_the_client_as_what_it_is(
    open_simulator: Open, kind: str, expected: type[Exception], status: int | None
) -> None:
    simulator, client = await open_simulator(faults={kind: 1.0})
    with pytest.raises(expected) as error:
        await embed(client, ["one", "two"])
    assert getattr(error.value, "status_code", None) == status
    stats = simulator.stats()
    assert (stats["faults"], stats["answered"]) == ({kind: 1}, 0)
    assert (stats["input_tokens"] > 0) == (kind in ("truncated", "malformed"))  # paid, and lost


async def test_a_hanging_request_is_never_answered(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"hang": 1.0})
    with pytest.raises(openai.APITimeoutError):
        await embed(client, timeout=0.05)
    assert simulator.stats()["answered"] == 0


async def test_a_cut_answer_lacks_vectors_and_an_empty_one_has_none(open_simulator: Open) -> None:
    texts = ["one", "two", "three", "four"]
    for kind, left in (("length", 2), ("empty", 0)):
        simulator, client = await open_simulator(faults={kind: 1.0})
        raw = await client.embeddings.with_raw_response.create(model=MODEL, input=texts, encoding_format="float")
        assert len(json.loads(raw.content)["data"]) == left
        assert (simulator.stats()["answered"], simulator.stats()["input_tokens"]) == (0, 5)


async def test_wrong_usage_is_negative_absurd_or_missing_while_the_vectors_are_good(open_simulator: Open) -> None:
    simulator, client = await open_simulator(faults={"usage": 1.0})
    usages = [(await embed(client, f"row {row}")).usage for row in range(20)]
    assert {None if usage is None else usage.prompt_tokens for usage in usages} == {None, -2, 10**12}
    assert simulator.stats()["answered"] == 20


async def test_another_attempt_of_the_same_inputs_has_a_fate_of_its_own(open_simulator: Open) -> None:
    _, client = await open_simulator(faults={"server_error": 0.5})
    outcomes = set()
    for _ in range(20):
        try:
            await embed(client, ["one", "two"])
            outcomes.add("ok")
        except openai.InternalServerError:
            outcomes.add("spoiled")
    assert outcomes == {"ok", "spoiled"}


async def test_statistics_count_texts_so_that_a_row_paid_twice_shows(open_simulator: Open) -> None:
    simulator, client = await open_simulator()
    first = await embed(client, ["one", "two", "three"])
    second = await embed(client, ["three", "four"])
    stats = simulator.stats()
    assert (stats["accepted"], stats["answered"]) == (2, 5)
    assert stats["duplicates"] == {"answered_twice": 1, "extra_answers": 1, "prompts": 4}
    assert stats["input_tokens"] == first.usage.prompt_tokens + second.usage.prompt_tokens
    assert stats["output_tokens"] == 0
