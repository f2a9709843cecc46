"""What was paid for in an earlier run is found again, and only where it answers the question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm.engine import engine as engine_module
from batch_llm.job.load import DeclaredJob
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

ROWS = 12


class Killed(BaseException):
    """In the place of a `kill -9`."""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """An empty machine, with the key of `compatible_server`."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    return Lab(tmp_path)


async def run_without_promotion(lab: Lab, job: DeclaredJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is answered and published, then the process dies."""

    async def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "promote", dies)
        with pytest.raises(Killed):
            await lab.run(job)


@pytest.mark.parametrize("kind", ["string", "integer"])
async def test_append_missing_takes_no_answer_to_another_question_from_a_run_that_never_came_in(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """That any answer counts for a key is the output table's rule; the answer's column may be of another type now."""
    lab.table(ROWS)
    asked: list[str] = []

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        asked.append(prompt)
        return 200, answered_body('{"tone": "old"}' if "OLD" in prompt or kind == "string" else '{"tone": 7}')

    async with compatible_server(lab, answer) as model:

        def job(word: str, of_kind: str) -> DeclaredJob:
            output = {"table": "out", "mode": "append_missing", "schema": {"tone": of_kind}}
            return lab.job(model=model, prompt={"user": f"{word} {{{{ text }}}}"}, output=output)

        await run_without_promotion(lab, job("OLD", "string"), monkeypatch)
        asked.clear()
        summary = await lab.run(job("NEW", kind))
        assert (summary.ok, len(asked)) == (ROWS, ROWS)
        # what the output holds stays as it is, whatever is asked now
        again = await lab.run(job("NEWER", kind))
    assert (again.ok, len(asked)) == (ROWS, ROWS)
