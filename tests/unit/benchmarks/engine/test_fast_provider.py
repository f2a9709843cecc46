"""The fast provider cuts requests out of any stream of bytes and answers with a valid chat completion."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from benchmarks.engine.fast_provider import FastProvider, Parser, completion

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\ncontent-Length: 11\r\n\r\n" + b'{"a": "bc"}'
GET = b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"


@given(st.lists(st.sampled_from([POST, GET]), max_size=6), st.lists(st.integers(0, 500), max_size=8))
def test_requests_are_found_wherever_the_stream_is_cut(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)
    places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    parser = Parser()
    paths = [path for a, b in pairwise(places) for path in parser.feed(stream[a:b])]
    assert paths == [request.split(b" ")[1] for request in requests]


def test_the_answer_is_a_chat_completion_with_usage() -> None:
    head, _, body = completion().partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    answer = ChatCompletion.model_validate_json(body)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_it_tells_what_it_answered_and_what_it_cost() -> None:
    told = FastProvider().other(b"/stats").partition(b"\r\n\r\n")[2]
    assert json.loads(told)["answered"] == 0
    assert FastProvider().other(b"/v1/models").startswith(b"HTTP/1.1 404")
