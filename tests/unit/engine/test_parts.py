"""What a request is made of: its cap, its size, its hash, in each way of telling the schema."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch_llm.clock import SystemClock
from batch_llm.engine.parts import JobParts, request_hash, with_max_tokens
from batch_llm.engine.pools import Pool
from batch_llm.job.load import declare
from batch_llm.limiter.base import Limits
from batch_llm.providers.base import Request
from batch_llm.providers.openai.images import OPENAI_IMAGES
from batch_llm.providers.structured_output import StructureMode, instructed
from batch_llm.tokens import CAP_AFTER_ROWS, OutputLength, Tokens
from tests.pictures import png

JOB: dict[str, Any] = {
    "name": "lab",
    "input": {"table": "input.parquet", "key": ["id"]},
    "prompt": {"system": "You grade.", "user": "Grade: {{ text }}"},
    "model": "openai/gpt-4.1-mini",
    "output": {"table": "out", "schema": {"tone": {"enum": ["calm", "tense"]}}},
}
ROW = {"id": 1, "text": "a text"}


def parts_of(structure: StructureMode = StructureMode.JSON_SCHEMA, **changes: Any) -> JobParts:
    nothing: Any = None
    declared = declare({**JOB, **changes}, Path())
    length = OutputLength(declared.job.params.declared_cap)
    tokens = Tokens(declared.job.model_name)
    return JobParts(
        declared,
        "in",
        "out",
        (Pool("m", Limits("p:m"), None),),
        tokens,
        length,
        learning=nothing,
        warehouse=nothing,
        runs=nothing,
        clock=SystemClock(),
        aside=nothing,
        structure=structure,
    )


def hash_of(parts: JobParts) -> str:
    return request_hash(parts.request(ROW, "r"), parts.declared.job.model)


def learned(parts: JobParts, tokens: int = 100) -> JobParts:
    for _ in range(CAP_AFTER_ROWS):
        parts.output_length.learn(tokens)
    return parts


# -- the way of telling the schema


def test_how_the_schema_is_told_is_no_part_of_the_question() -> None:
    """Another mode asks nothing again; another schema does."""
    assert len({hash_of(parts_of(mode)) for mode in StructureMode}) == 1
    other = parts_of(output={"table": "out", "schema": {"tone": "string"}})
    assert hash_of(other) != hash_of(parts_of())


@pytest.mark.parametrize("mode", StructureMode)
def test_all_that_is_sent_is_counted(mode: StructureMode) -> None:
    parts = parts_of(mode)
    request = parts.request(ROW, "r")
    sent = [message.content for message in instructed(request.messages, request.json_schema, mode)]
    extra = parts.tokens.count(str(parts.schema.json_schema)) if mode is StructureMode.JSON_SCHEMA else 0
    counted = parts.predicted_cost(request).input_tokens
    assert counted == pytest.approx(parts.tokens.count_chat(sent) + extra, abs=12)
    assert parts.input_bytes(request) >= sum(len(text.encode()) for text in sent) - len("\n\n")


def test_words_take_more_than_the_schema_alone() -> None:
    costs = {mode: parts_of(mode).predicted_cost(parts_of().request(ROW, "r")).input_tokens for mode in StructureMode}
    assert costs[StructureMode.JSON_SCHEMA] + 50 < costs[StructureMode.JSON_OBJECT] == costs[StructureMode.PROMPT]


# -- the cap


def cap_of(parts: JobParts, request: Request) -> int | None:
    """As sent, and as reserved: one and the same."""
    cap: int | None = request.params.get("max_output_tokens")
    assert parts.predicted_cost(request).max_output_tokens == cap
    return cap


def test_a_declared_cap_is_sent_from_the_first_row_and_never_changes() -> None:
    parts = parts_of(params={"max_output_tokens": 7})
    request = parts.request(ROW, "r")
    assert cap_of(parts, parts.with_cap(request)) == 7
    assert cap_of(learned(parts), parts.with_cap(request)) == 7
    assert parts.predicted_cost(request).output_tokens == 7


def test_a_learned_cap_is_sent_once_it_is_learned() -> None:
    parts = parts_of(params={"max_output_tokens": "auto", "temperature": 0})
    request = parts.request(ROW, "r")
    assert request.params == {"temperature": 0}
    assert cap_of(parts, parts.with_cap(request)) is None
    assert cap_of(parts, learned(parts).with_cap(request)) == 200


def test_a_row_that_was_answered_badly_goes_without_a_learned_cap() -> None:
    """Also in another process: what was paid for it is in the journal."""
    parts = learned(parts_of(params={"max_output_tokens": "auto"}))
    assert cap_of(parts, parts.with_cap(parts.request(ROW, "r"), bad_answers=1)) is None


def test_a_cap_can_be_put_in_place_of_another_and_taken_away() -> None:
    parts = parts_of(params={"max_output_tokens": 7, "temperature": 0})
    request = parts.request(ROW, "r")
    assert with_max_tokens(request, 9).params == {"temperature": 0, "max_output_tokens": 9}
    assert with_max_tokens(request, None).params == {"temperature": 0}
    assert request.params == {"temperature": 0, "max_output_tokens": 7}


def test_without_a_cap_none_is_sent() -> None:
    parts = learned(parts_of())
    assert cap_of(parts, parts.with_cap(parts.request(ROW, "r"))) is None


def test_a_learned_cap_asks_the_same_question_as_none() -> None:
    """No answer is kept that was cut, so a row that is done stays done; a declared cap is part of the question."""
    auto = learned(parts_of(params={"max_output_tokens": "auto"}))
    assert hash_of(auto) == hash_of(parts_of()) != hash_of(parts_of(params={"max_output_tokens": 7}))


# -- images


def with_image(picture: Any, **changes: Any) -> tuple[JobParts, Request]:
    parts = replace(parts_of(images=["picture"], **changes), image_rules=OPENAI_IMAGES)
    return parts, parts.request({**ROW, "picture": picture}, "r")


def test_an_image_is_part_of_the_question_and_goes_with_the_users_message() -> None:
    parts, request = with_image(png(64, 64))
    assert [len(message.images) for message in request.messages] == [0, 1]
    assert "picture" in parts.columns and "picture" in parts.asked_columns
    asked = {request_hash(with_image(each)[1], "m") for each in (png(64, 64), png(64, 64), png(64, 64, grey=1), None)}
    assert len(asked) == 3
    assert request_hash(with_image(None)[1], "m") == request_hash(parts_of().request(ROW, "r"), "m")


def test_an_image_is_counted_beside_the_text_and_is_none_of_its_bytes() -> None:
    parts, request = with_image(png(1_024, 1_024))
    plain = parts_of()
    alone = plain.predicted_cost(plain.request(ROW, "r")).input_tokens
    assert parts.predicted_cost(request).input_tokens == alone + parts.image_tokens(request)
    assert parts.image_tokens(request) == 1_659  # 1,024 patches, each 1.62
    assert parts.input_bytes(request) == plain.input_bytes(plain.request(ROW, "r"))
