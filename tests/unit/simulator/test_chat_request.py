"""What the simulator reads from a request, and what it refuses."""

from typing import Any

import orjson
import pytest

from batch_llm.simulator.chat_request import ChatRequest, read_chat
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.refusals import Refused

GOOD: dict[str, Any] = {"model": "simulator/small", "messages": [{"role": "user", "content": "hello"}]}
MISNAMED: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "my answer", "schema": {}}}
NAMELESS: dict[str, Any] = {"type": "json_schema", "json_schema": {"schema": {}}}


def _read(config: SimulatorConfig | None = None, **changes: Any) -> ChatRequest:
    body = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return read_chat(orjson.dumps(body), config or SimulatorConfig())


def test_prompt_tokens_are_the_utf8_bytes_of_all_texts_divided_and_rounded_up_once() -> None:
    messages = [
        {"role": "system", "content": "é" * 3},
        {"role": "user", "content": [{"type": "text", "text": "abc"}, {"type": "text", "text": "ü"}]},
    ]
    assert _read(messages=messages).prompt_tokens == 3  # 6 + 3 + 2 bytes


def test_the_prompt_is_known_by_model_and_messages_alone() -> None:
    same = [_read(), _read(temperature=1), _read(max_tokens=9), _read(seed=4), _read(SimulatorConfig(seed=3))]
    assert len({request.prompt for request in same}) == 1
    others = [_read(model="simulator/x"), _read(messages=[{"role": "user", "content": "hell"}])]
    assert len({request.prompt for request in [*same, *others]}) == 3


def test_what_openai_documents_and_does_not_change_the_text_is_accepted() -> None:
    ignored = {"temperature": None, "user": "me", "store": False, "metadata": {}, "n": 1}
    more = _read(service_tier="flex", reasoning_effort="low", logprobs=False, tools=None)
    assert _read(**ignored).prompt == more.prompt == _read().prompt


@pytest.mark.parametrize(
    ("changes", "param", "code", "message"),
    [
        ({"model": ...}, None, None, "you must provide a model parameter"),
        ({"messages": ...}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
        ({"messages": "hi"}, "messages", "invalid_type", "Invalid type for 'messages': expected an array"),
        ({"messages": []}, "messages", "empty_array", "Invalid 'messages': empty array."),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type", "expected an object, but got a string"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "missing_required_parameter", "'messages[0].role'"),
        (
            {"messages": [{"role": "boss", "content": "a"}]},
            "messages[0].role",
            "invalid_value",
            "Invalid value: 'boss'",
        ),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_type", "but got null instead"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
            "invalid_value",
            "Supported values are: 'text'.",
        ),
        ({"temperature": 200}, "temperature", "decimal_above_max_value", "Expected a value <= 2, but got 200 instead."),
        ({"top_p": -0.5}, "top_p", "decimal_below_min_value", "Expected a value >= 0, but got -0.5 instead."),
        ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string instead"),
        ({"seed": 1.5}, "seed", "invalid_type", "expected an integer, but got a decimal"),
        ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean"),
        ({"n": 2}, "n", "unsupported_value", "'n' must be 1"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
        ({"max_tokens": "9"}, "max_tokens", "invalid_type", "expected an integer"),
        (
            {"max_completion_tokens": 20_480},
            "max_completion_tokens",
            "invalid_value",
            "max_completion_tokens is too large: 20480. This model supports at most 16384 completion tokens",
        ),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length", "maximum length 4"),
        ({"stop": 3}, "stop", "invalid_type", "expected one of a string or array of strings"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"wisdom": 1}, "wisdom", "unknown_parameter", "Unknown parameter: 'wisdom'."),
        ({"tools": [{}]}, "tools", "unsupported_parameter", "does not imitate 'tools'"),
        ({"response_format": "json"}, "response_format", "invalid_type", "expected an object"),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type",
            "invalid_value",
            "Invalid value: 'xml'. Supported values are: 'json_object', 'json_schema', and 'text'.",
        ),
        ({"response_format": {"type": "json_object"}}, "messages", None, "must contain the word 'json' in some form"),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
            "Missing required parameter: 'response_format.json_schema'.",
        ),
        (
            {"response_format": NAMELESS},
            "response_format.json_schema.name",
            "missing_required_parameter",
            "Missing required parameter: 'response_format.json_schema.name'.",
        ),
        (
            {"response_format": MISNAMED},
            "response_format.json_schema.name",
            "invalid_value",
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        ),
    ],
)
def test_a_bad_request_is_refused_as_the_api_does(
    changes: dict[str, Any], param: str | None, code: str | None, message: str
) -> None:
    with pytest.raises(Refused) as refused:
        _read(**changes)
    assert (refused.value.status, refused.value.kind) == (400, "invalid_request_error")
    assert (refused.value.param, refused.value.code) == (param, code)
    assert message in refused.value.message


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused, match="could not parse the JSON body"):
        read_chat(raw, SimulatorConfig())


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "openai/gpt-4.1", "simulator", "simulator/"])
def test_only_its_own_models_are_answered(model: str) -> None:
    with pytest.raises(Refused, match="does not exist or you do not have access") as refused:
        _read(model=model)
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")


def test_a_prompt_larger_than_the_context_is_refused() -> None:
    config = SimulatorConfig(context_tokens=10)
    long = [{"role": "user", "content": "x" * 41}]
    with pytest.raises(Refused, match=r"maximum context length is 10 tokens\..* resulted in 11 tokens") as refused:
        _read(config, messages=long)
    assert (refused.value.param, refused.value.code) == ("messages", "context_length_exceeded")
    with pytest.raises(Refused, match=r"you requested 12 tokens \(2 in the messages, 10 in the completion\)"):
        _read(config, max_tokens=10)
    assert _read(config, max_tokens=8).max_tokens == 8
