"""`max_output_tokens: auto`: the cap is learned, sent, met, and never fails a row by itself."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.errors import ErrorClass
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

ROWS = 400
SHORT, LONG = 20, 5_000  # tokens


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KEY", "k-1")


def answered(tokens: int, cap: int | None) -> dict[str, Any]:
    """An answer of so many tokens, cut at the cap as the API does."""
    cut = cap is not None and tokens > cap
    given = cap if cut and cap is not None else tokens
    body = answered_body("fine", completion_tokens=given, total_tokens=5 + given)
    body["choices"][0]["finish_reason"] = "length" if cut else "stop"
    return body


@pytest.mark.parametrize("re_asks", [0, 2])
async def test_an_answer_that_meets_the_learned_cap_is_asked_once_more_without_it(lab: Lab, re_asks: int) -> None:
    lab.table(ROWS)
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered(LONG if prompt.endswith("text 399") else SHORT, bodies[-1].get("max_tokens"))

    few = {"max_concurrency": 4}  # little is in flight or read ahead: the last slice is prepared when a cap is known
    async with compatible_server(lab, answer, bodies=bodies, limits=few) as model:
        job = lab.job(
            model=model,
            params={"max_output_tokens": "auto"},
            output={"table": "out"},
            retries={"re_asks": re_asks},
            slices={"rows": 100},
        )
        summary = await lab.run(job)
    assert (summary.ok, summary.failed, summary.requests) == (ROWS, 0, ROWS + 1)
    last = [body.get("max_tokens") for body in bodies if body["messages"][-1]["content"].endswith("text 399")]
    assert last == [64, None]
    row = lab.rows()[-1]
    assert (row["llm_attempts"], row["llm_output_tokens"]) == (2, 64 + LONG)  # both are paid


@pytest.mark.parametrize(
    ("params", "asked"), [({"max_output_tokens": 10}, [10]), ({}, [None, None]), ({"max_output_tokens": 99}, [99] * 3)]
)
async def test_an_answer_that_is_cut_for_ever_fails(lab: Lab, params: dict[str, Any], asked: list[int | None]) -> None:
    """At the job's own cap at once, without one after a second try, below it when the re-asks are used up."""
    lab.table(1)
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, {**answered(SHORT, 10), "id": len(bodies)}

    async with compatible_server(lab, answer, bodies=bodies) as model:
        summary = await lab.run(lab.job(model=model, params=params, output={"table": "out"}))
    assert (summary.ok, summary.failed) == (0, 1)
    assert [body.get("max_tokens") for body in bodies] == asked
    assert lab.rows()[0]["llm_error_class"] == ErrorClass.TRUNCATED.value


@pytest.mark.parametrize(
    ("params", "asked"), [({"max_output_tokens": 10}, [10]), ({"max_output_tokens": "auto"}, [64, None])]
)
async def test_an_answer_that_is_cut_and_states_no_usage_met_the_cap(
    lab: Lab, params: dict[str, Any], asked: list[int | None]
) -> None:
    """The job's own: it fails at once; the learned one: it is asked once more without, whatever `re_asks` says."""
    lab.table(ROWS)
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        if not prompt.endswith("text 399"):
            return 200, answered(SHORT, None)
        cut = answered(LONG, bodies[-1].get("max_tokens"))
        return 200, {key: value for key, value in cut.items() if key != "usage"}

    few = {"max_concurrency": 4}
    async with compatible_server(lab, answer, bodies=bodies, limits=few) as model:
        retries = {"re_asks": 2 if params["max_output_tokens"] == 10 else 0}
        job = lab.job(model=model, params=params, output={"table": "out"}, retries=retries, slices={"rows": 100})
        summary = await lab.run(job)
    last = [body.get("max_tokens") for body in bodies if body["messages"][-1]["content"].endswith("text 399")]
    assert (last, summary.failed) == (asked, 1 if asked == [10] else 0)


async def test_a_job_that_learns_its_cap_asks_nothing_again_that_was_asked_without_one(lab: Lab) -> None:
    lab.table(3)
    bodies: list[dict[str, Any]] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        return 200, answered(SHORT, None)

    async with compatible_server(lab, answer, bodies=bodies) as model:
        for params in ({}, {"max_output_tokens": "auto"}):
            assert (await lab.run(lab.job(model=model, params=params, output={"table": "out"}))).ok == 3
    assert len(bodies) == 3
