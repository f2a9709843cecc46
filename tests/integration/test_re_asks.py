"""What uses up `retries.re_asks`, and what `retries.attempts`: each row's calls, as the server saw them.

Belongs here: rows whose answers are bad in several ways, also over a stop. Not here: what each class leads to by itself
(tests/unit/engine/test_retry.py), caps (test_learned_cap.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.clock import ScaledClock
from batch_llm.engine.events import RunSummary
from batch_llm.errors import ErrorClass
from tests.integration.engine_lab import answered_body, compatible_server
from tests.integration.lab import Lab

MISMATCH, GOOD = '{"tone": "loud", "score": 1}', '{"tone": "calm", "score": 1}'
CUT = "cut"
STOP = "stop"  # the server knows the key no more
GARBLED = "garbled"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KEY", "k-1")


class Script:
    """A server that answers each row so, one after the other; then well if it was told its mistake, else badly."""

    def __init__(self, *said: list[Any]) -> None:
        self.left = [list(each) for each in said]
        self.told: list[list[bool]] = [[] for _ in said]  # of each row's calls: whether the model was told its mistake
        self.bodies: list[dict[str, Any]] = []

    async def answer(self, prompt: str) -> tuple[int, dict[str, Any]]:
        messages = self.bodies[-1]["messages"]
        row, is_told = int(messages[0]["content"].split()[-1]), len(messages) > 1
        self.told[row].append(is_told)
        said = self.left[row].pop(0) if self.left[row] else (GOOD if is_told else MISMATCH)
        if said == STOP:
            return 401, {"error": {"message": "who are you?", "type": "authentication_error"}}
        if said == GARBLED:
            return 200, {"model": "m", "choices": "none"}
        body = answered_body(MISMATCH if said == CUT else said)
        body["choices"][0]["finish_reason"] = "length" if said == CUT else "stop"
        return 200, body

    async def run(self, lab: Lab, times: int = 1, **job: Any) -> RunSummary:
        """The last summary."""
        lab.table(len(self.left))
        async with compatible_server(lab, self.answer, bodies=self.bodies) as model:
            for _ in range(times):
                async with lab.engine(lab.job(model=model, cache="off", **job), clock=ScaledClock(100)) as engine:
                    summary = await engine.run()
        return summary


async def test_what_uses_up_attempts_uses_up_no_re_ask(lab: Lab) -> None:
    """However often the answer was empty or garbled: the model is told its mistake, and mends it."""
    before = [[], [""], ["", ""], ["", "", ""], [GARBLED, "", GARBLED]]
    script = Script(*before)
    summary = await script.run(lab)
    assert (summary.ok, summary.failed) == (len(before), 0)
    assert script.told == [[False] * len(each) + [False, True] for each in before]


async def test_an_answer_that_is_cut_after_empty_ones_is_asked_once_more(lab: Lab) -> None:
    script = Script(["", "", CUT, GOOD])
    summary = await script.run(lab, params={})
    assert (summary.ok, len(script.bodies)) == (1, 4)


@pytest.mark.parametrize("re_asks", [0, 2])
async def test_a_row_is_asked_as_often_as_both_allow_and_no_more(lab: Lab, re_asks: int) -> None:
    mismatches, last = [MISMATCH] * re_asks, ErrorClass.SCHEMA_MISMATCH.value
    script = Script(["", *mismatches, MISMATCH, GOOD], [*mismatches, "", "", "", GOOD])
    summary = await script.run(lab, retries={"attempts": 3, "re_asks": re_asks})
    assert (summary.failed, [len(told) for told in script.told]) == (2, [re_asks + 2, re_asks + 3])
    assert [row["llm_error_class"] for row in lab.rows()] == [last, ErrorClass.EMPTY.value]


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        (["", "", STOP, MISMATCH, GOOD], True),  # the empty ones are no re-asks after the stop either
        ([MISMATCH, "", STOP, MISMATCH, MISMATCH], False),  # and those that are stay used up
        (["", "", CUT, STOP, CUT], False),  # it had its one more try
    ],
)
async def test_whoever_goes_on_with_a_run_counts_as_if_it_had_not_stopped(lab: Lab, said: list[Any], ok: bool) -> None:
    script = Script([*said, GOOD])
    summary = await script.run(lab, times=2, params={})
    assert (summary.ok, summary.failed, len(script.bodies)) == (ok, not ok, len(said))
