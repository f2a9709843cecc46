"""A verdict on every body, however odd: the journal holds it, so that whatever raised would raise at each replay."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm.engine.answers import Judge, Verdict
from batch_llm.engine.call_answers import CallJudge, judge_for
from batch_llm.errors import ErrorClass
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.job.schema import AnswerSchema
from batch_llm.providers.account import Account
from batch_llm.providers.anthropic.messages import AnthropicProvider
from batch_llm.providers.base import AnyProvider, Completion, Embeddings, Provider, Usage
from batch_llm.providers.google.chat import GoogleChatProvider
from batch_llm.providers.google.embeddings import GoogleEmbeddingProvider
from batch_llm.providers.google.endpoint import GoogleEndpoint
from batch_llm.providers.google.vertex_embeddings import VertexEmbeddingProvider
from batch_llm.providers.openai.chat import OpenAIChatProvider
from batch_llm.providers.openai.embeddings import OpenAIEmbeddingProvider
from batch_llm.providers.openai.endpoint import OpenAIEndpoint
from tests.search import examples

SCHEMA = AnswerSchema.from_declared(
    {
        "score": "number",
        "count": "integer",
        "tags": {"type": "array", "items": "string"},
        "of": {"type": "object", "properties": {"sure": "boolean"}},
    }
)
ANSWER = {"score": 0.5, "count": 2, "tags": ["a"], "of": {"sure": True}}
TEXT = json.dumps(ANSWER)
OPENAI, GOOGLE = OpenAIEndpoint("http://127.0.0.1/v1", None), GoogleEndpoint("http://127.0.0.1/v1beta/models")

CHAT = {
    "model": "m",
    "choices": [{"message": {"content": TEXT, "refusal": None}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    },
}
MESSAGE = {
    "model": "m",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 0}},
}
GENERATED = {
    "modelVersion": "m",
    "candidates": [{"content": {"parts": [{"text": TEXT, "thought": False}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}
USAGE = Usage(3, 2)

CHATS: dict[str, tuple[Provider, dict[str, Any], tuple[Any, ...], tuple[Any, ...]]] = {
    # a provider, a good answer, where it says why it ended, where it names its model
    "openai": (OpenAIChatProvider("p", OPENAI), CHAT, ("choices", 0, "finish_reason"), ("model",)),
    "anthropic": (AnthropicProvider(Account("p", "http://127.0.0.1", None)), MESSAGE, ("stop_reason",), ("model",)),
    "google": (GoogleChatProvider("p", GOOGLE), GENERATED, ("candidates", 0, "finishReason"), ("modelVersion",)),
}
FORMATS: dict[str, tuple[AnyProvider, dict[str, Any]]] = {
    **{name: (provider, good) for name, (provider, good, *_) in CHATS.items()},
    "openai vectors": (
        OpenAIEmbeddingProvider("p", OPENAI),
        {
            "data": [{"index": 0, "embedding": [1.0, 2.0]}, {"index": 1, "embedding": "AACAPwAAAEA="}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
            "model": "m",
        },
    ),
    "google vectors": (
        GoogleEmbeddingProvider("p", GOOGLE),
        {"embeddings": [{"values": [1.0, 2.0]}, {"values": [1, 2]}], "usageMetadata": {"promptTokenCount": 1}},
    ),
    "predict": (
        VertexEmbeddingProvider("p", GOOGLE),
        {
            "predictions": [
                {"embeddings": {"values": [1.0, 2.0], "statistics": {"token_count": 1, "truncated": False}}}
                for _ in range(2)
            ]
        },
    ),
    "embedContent": (
        VertexEmbeddingProvider("p", GOOGLE),
        {"embedding": {"values": [1.0, 2.0]}, "usageMetadata": {"promptTokenCount": 1}, "truncated": False},
    ),
}


DEEP = "lists in lists"


def changed(good: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    """The body with another value at one place; `DEEP`: one that Python cannot print."""
    body = copy.deepcopy(good)
    place: Any = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(body).replace(json.dumps(DEEP), nested(1_000)).encode()


def nested(levels: int) -> str:
    """A list in a list in a list."""
    return "[" * levels + "]" * levels


def judged_at_any_depth(judge: Judge | CallJudge, body: bytes) -> Verdict:
    """The verdict, which is the same where little of the stack is left as where much is."""

    def below(frames: int) -> Verdict:
        return judge.judge(body, 2) if not frames else below(frames - 1)

    verdict = judge.judge(body, 2)
    assert below(sys.getrecursionlimit() // 2) == verdict
    return verdict


# -- what is odd beside the text


@pytest.mark.parametrize("reason", [["stop"], {"a": 1}, 5, True, None, DEEP])
@pytest.mark.parametrize("name", CHATS)
def test_a_reason_to_stop_that_is_no_text_is_one_that_we_do_not_know(name: str, reason: Any) -> None:
    """Its bill is told all the same."""
    provider, good, place, _ = CHATS[name]
    verdict = judged_at_any_depth(Judge(provider, SCHEMA), changed(good, place, reason))
    assert (verdict.error_class, verdict.usage, verdict.text) == (ErrorClass.MALFORMED, USAGE, TEXT)


@pytest.mark.parametrize("model", [DEEP, {"a": 1}, 5, None])
@pytest.mark.parametrize("name", CHATS)
def test_a_models_name_that_is_no_text_spoils_nothing(name: str, model: Any) -> None:
    provider, good, _, place = CHATS[name]
    body = changed(good, place, model)
    verdict = judged_at_any_depth(Judge(provider, SCHEMA), body)
    assert (verdict.error_class, verdict.values, verdict.usage) == (None, ANSWER, USAGE)
    assert provider.read(body).model == ""


def test_a_models_name_that_is_no_text_spoils_no_vectors() -> None:
    provider, good = FORMATS["openai vectors"]
    judge = CallJudge(cast("OpenAIEmbeddingProvider", provider), EmbeddingAnswer(2))
    assert judged_at_any_depth(judge, changed(good, ("model",), DEEP)).error_class is None


# -- what is odd in the text


@pytest.mark.parametrize("before", ["", "Sure: ", "[1] Sure: ", "```json\n"])
@pytest.mark.parametrize("levels", [101, 253, 254, 255, 300, 900, 1_000, 1_010, 1_100, 50_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_an_answer_that_is_nested_too_deeply_is_told_so(before: str, levels: int, opening: str) -> None:
    """To the model, as any other mismatch; it is paid."""
    text = f'{before}{{"tags": {opening * levels}1{("]" if opening == "[" else "}") * levels}}}'
    provider, good, *_ = CHATS["openai"]
    body = changed(good, ("choices", 0, "message", "content"), text)
    verdict = judged_at_any_depth(Judge(provider, SCHEMA), body)
    assert (verdict.error_class, verdict.usage, verdict.text) == (ErrorClass.SCHEMA_MISMATCH, USAGE, text)
    assert "nested too deeply" in verdict.message or "not JSON" in verdict.message


# -- whatever else


class Odd:
    """A provider of somebody's own, whose reader is not as careful as it should be."""

    name = "odd"

    def __init__(self, said: Any) -> None:
        self.said = said

    def read(self, body: bytes) -> Any:
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


def of_odd(said: Any, schema: AnswerSchema) -> Verdict:
    return judge_for(cast("AnyProvider", Odd(said)), schema).judge(b"{}", 2)


@pytest.mark.parametrize("schema", [SCHEMA, EmbeddingAnswer(2)], ids=["chat", "vectors"])
@pytest.mark.parametrize("error", [TypeError("sk-key"), RecursionError("sk-key"), ValueError("sk-key"), KeyError(1)])
def test_a_reader_that_raises_what_it_must_not_makes_a_malformed_answer(error: Exception, schema: AnswerSchema) -> None:
    """It is told by its type; what it says may hold anything."""
    kind = type(error).__name__
    assert of_odd(error, schema) == Verdict(ErrorClass.MALFORMED, f"the answer cannot be read ({kind})", None)


@pytest.mark.parametrize("said", [None, 5, Completion(cast("str", None), "stop", USAGE, "m")])
def test_a_reader_that_gives_what_it_must_not_makes_a_malformed_answer(said: Any) -> None:
    for schema in (SCHEMA, EmbeddingAnswer(2)):
        verdict = of_odd(said, schema)
        assert (verdict.error_class, verdict.text) == (ErrorClass.MALFORMED, "")
        assert verdict.usage == getattr(said, "usage", None)


def test_what_was_read_and_cannot_be_checked_is_a_mismatch_that_is_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: AnswerSchema, text: str) -> dict[str, Any]:
        raise RuntimeError(f"no rule for {text}")

    monkeypatch.setattr(AnswerSchema, "parse", broken)
    verdict = of_odd(Completion("sk-key", "stop", USAGE, "m"), SCHEMA)
    message = "the answer cannot be checked (RuntimeError)"
    assert verdict == Verdict(ErrorClass.SCHEMA_MISMATCH, message, USAGE, "sk-key")


def test_vectors_that_cannot_be_checked_are_malformed_and_paid() -> None:
    verdict = of_odd(Embeddings(cast("tuple[bytes, ...]", (7, 7)), USAGE, "m"), EmbeddingAnswer(2))
    assert verdict == Verdict(ErrorClass.MALFORMED, "the answer cannot be checked (TypeError)", USAGE)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_says_nothing_of_the_answer_is_no_verdict(error: BaseException) -> None:
    """The next process may have more memory, and must come to the same verdict as this one would have."""
    with pytest.raises(type(error)):
        of_odd(error, SCHEMA)


# -- invariants


junk = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1.5, 10**18, 2**70, 1e308, "", "x", "5", "stop", "STOP", "\u0000", "\u0661"),
        *([], {}, [1], ["1", "2"], [True, False], [[1.0], [2.0]], {"a": 1}, [None], [{}]),
        *(DEEP, nested(300), f'{{"tags": {nested(300)}}}', f"so: {{{nested(1_000)}}}"),
    ]
)


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*before, key)
        yield from paths(each, (*before, key))


@settings(max_examples=examples(150))
@given(st.data())
@pytest.mark.parametrize("name", FORMATS)
def test_every_body_has_a_verdict(name: str, data: st.DataObject) -> None:
    """The same at each look; a good one has what its kind promises."""
    provider, good = FORMATS[name]
    is_chat = name in CHATS
    judge = judge_for(provider, SCHEMA if is_chat else EmbeddingAnswer(2))
    odd = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(0, 2))):
        place: Any = odd
        *way, last = data.draw(st.sampled_from(list(paths(odd))))
        for key in way:
            place = place[key]
        place[last] = copy.deepcopy(data.draw(junk))
    body = changed(odd, data.draw(st.sampled_from(list(paths(odd)))), data.draw(junk))
    verdict = judge.judge(body, 2)
    assert verdict == judge.judge(body, 2)
    assert (verdict.error_class is None) == (verdict.values is not None if is_chat else len(verdict.vectors) == 2)
    if verdict.usage is not None:
        assert {type(each) for each in verdict.usage} == {int}
