"""Jobs whose model takes no schema, says no, or is cut: every row right, or rightly failed."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from batch_llm.errors import ErrorClass
from batch_llm.job.schema import AnswerSchema
from tests.integration.engine_lab import answered_body, child, compatible_server
from tests.integration.lab import SCHEMA, Lab

SIMULATED = {"answer": "string", "score": "number", "sure": "boolean"}  # what the simulator's JSON mode gives
GOOD = '{"tone": "calm", "score": 1}'
# what models without JSON mode make of it, by the prompt's last digit
WRITTEN = [
    GOOD,
    f"```json\n{GOOD}\n```",
    f"Here is the JSON you asked for:\n\n```json\n{GOOD}\n```\n\nLet me know if [anything] else is needed!",
    '{"tone": "calm", "score": 1,}',
    f"[{GOOD}]",
    '\ufeff{“tone”: "calm", “score”: 1}',
]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KEY", "k-1")


async def test_json_mode_is_asked_for_and_the_schema_is_told_in_words(lab: Lab) -> None:
    """The simulator refuses JSON mode without the word JSON, and bills the words."""
    lab.table(5)
    job = lab.job(output={"table": "out", "schema": SIMULATED})
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, structured_output="json_object")
        summary = await lab.run(job)
        assert (summary.ok, summary.requests) == (5, 5)
        lab.providers(simulator.base_url)  # the account has strict schemas now
        again = await lab.run(job)
        assert (again.ok, simulator.stats()["accepted"]) == (5, 5)  # and nothing is asked again
    rows = lab.rows()
    assert all(isinstance(row["answer"], str) and isinstance(row["score"], float) for row in rows)
    assert all(row["llm_input_tokens"] > 100 for row in rows)


async def test_a_model_without_any_mode_is_told_in_words_and_its_slips_are_read_over(lab: Lab) -> None:
    """One call per row."""
    lab.table(len(WRITTEN))
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body(WRITTEN[int(prompt[-1])])

    async with compatible_server(lab, answer, bodies=bodies, structured_output="prompt") as model:
        prompt = {"system": "You grade.", "user": "Grade: {{ text }}"}
        summary = await lab.run(lab.job(model=model, prompt=prompt))
    assert (summary.ok, summary.failed, summary.requests) == (len(WRITTEN), 0, len(WRITTEN))
    assert {(row["tone"], row["score"]) for row in lab.rows()} == {("calm", 1.0)}
    told = AnswerSchema.from_declared(SCHEMA).json_schema
    for body in bodies:
        assert "response_format" not in body
        system, user = body["messages"]
        assert system["role"] == "system" and system["content"].startswith("You grade.\n\n")
        assert orjson.loads(re.search(r"\{.*", system["content"], re.DOTALL)[0]) == told  # type: ignore[index]
        assert user == {"role": "user", "content": f"Grade: text {user['content'][-1]}"}


async def test_what_cannot_be_read_without_a_guess_is_asked_again_with_the_reason(lab: Lab) -> None:
    lab.table(1)
    bodies: list[dict[str, Any]] = []
    answers = [GOOD[:-4], f'{GOOD} or {{"tone": "tense", "score": 1}}', GOOD]

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered_body(answers[len(bodies) - 1])

    async with compatible_server(lab, answer, bodies=bodies, structured_output="prompt") as model:
        summary = await lab.run(lab.job(model=model))
    assert (summary.ok, summary.requests) == (1, 3)
    complaints = [body["messages"][-1]["content"] for body in bodies]
    assert "not JSON" in complaints[1] and "several JSON objects" in complaints[2]
    assert all(body["messages"][0]["content"].startswith("Answer with exactly one JSON object") for body in bodies)


# Source: https://github.com/openai/openai-dotnet/issues/55, https://github.com/compl-ai/compl-ai/issues/20 (Azure's
# 400 in full; read 2026-11-28).
AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
        },
    }
}


def said(message: dict[str, Any], finish_reason: str) -> dict[str, Any]:
    return {**answered_body(""), "choices": [{"message": message, "finish_reason": finish_reason}]}


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (200, said({"content": None, "refusal": "I cannot help with that."}, "stop"), ErrorClass.REFUSED),
        (200, said({"content": GOOD, "refusal": "I cannot help with that."}, "stop"), ErrorClass.REFUSED),
        (200, said({"content": GOOD}, "content_filter"), ErrorClass.CONTENT_FILTER),
        (200, said({"role": "assistant"}, "content_filter"), ErrorClass.CONTENT_FILTER),
        (400, AZURE, ErrorClass.CONTENT_FILTER),
        (200, said({"content": GOOD}, "length"), ErrorClass.TRUNCATED),
    ],
)
async def test_a_refusal_a_filter_and_a_cut_are_classes_of_their_own(
    lab: Lab, status: int, body: dict[str, Any], error_class: ErrorClass
) -> None:
    """The first two are asked once; none is kept as good, even where the text would fit the schema."""
    lab.table(2)
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return (status, body) if prompt.endswith("1") else (200, answered_body(GOOD))

    async with compatible_server(lab, answer, bodies=bodies) as model:
        summary = await lab.run(lab.job(model=model))
    assert (summary.ok, summary.failed) == (1, 1)
    good, bad = lab.rows()
    assert (good["llm_status"], good["tone"]) == ("ok", "calm")
    assert (bad["llm_status"], bad["llm_error_class"], bad["tone"]) == ("failed", error_class.value, None)
    if error_class is not ErrorClass.TRUNCATED:
        assert (bad["llm_attempts"], len(bodies)) == (1, 2)


KILLED_BEFORE_STORING = """
import asyncio, os, sys
from pathlib import Path
from batch_llm.journal.local import LocalJournal
from tests.integration.lab import Lab

append, count = LocalJournal.append, 0

def dies(self, entry):
    global count
    count += 1
    if count == 4:
        os._exit(9)  # this answer is paid for, and in no journal
    return append(self, entry)

LocalJournal.append = dies
asyncio.run(Lab(Path(sys.argv[1])).run())
"""


@pytest.mark.parametrize("header", [None, "Idempotency-Key"])
async def test_an_answer_that_a_crash_lost_is_not_billed_again_where_the_header_is_honoured(
    lab: Lab, header: str | None
) -> None:
    lab.table(12)
    async with lab.simulator(idempotency=True) as simulator:
        lab.providers(simulator.base_url, **({"idempotency_header": header} if header else {}))
        code, _, err = await child(KILLED_BEFORE_STORING, str(lab.folder))
        assert code == 9, err
        summary = await lab.run()
        stats = simulator.stats()
    assert (summary.rows, summary.ok) == (12, 12)
    billed = (stats["input_tokens"], stats["output_tokens"])
    stored = tuple(sum(row[f"llm_{kind}_tokens"] for row in lab.rows()) for kind in ("input", "output"))
    assert (stats["replayed"] > 0) == (billed == stored) == (header is not None)
