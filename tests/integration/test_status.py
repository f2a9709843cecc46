"""`status`: what a run that did not end by itself left behind, and what one that goes on has added to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.cli.status import RunStatus, status_of
from batch_llm.engine import publishing
from batch_llm.engine.reparse import Reparser
from batch_llm.journal.base import Entry, EntryKind
from tests.integration.engine_lab import (
    answered_body,
    compatible_server,
    journalled,
    killed_before_publishing,
    write_input,
)
from tests.integration.lab import SCHEMA, Lab


def status(lab: Lab) -> RunStatus:
    store = wiring.open_store(lab.settings)
    record = store.runs.latest("lab")
    assert record is not None
    return status_of(store, record)


async def test_answers_of_a_killed_run_are_counted_with_what_they_cost(lab: Lab) -> None:
    """The process died between its last answer and the first publication."""
    lab.table(8)
    async with lab.simulator():
        await killed_before_publishing(lab, "run")
        killed = status(lab)
        assert (killed.state, killed.reason, killed.answered, killed.ok) == ("stopped", None, 8, 0)
        summary = await lab.run()
    assert killed.cost_usd == summary.cost_usd is not None
    assert (status(lab).state, status(lab).cost_usd) == ("finished", summary.cost_usd)


async def test_a_cost_that_nobody_knows_is_none(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator():
        await killed_before_publishing(lab, "run")
    known, store = status(lab).cost_usd, wiring.open_store(lab.settings)
    (record,) = store.runs.all()
    with closing(store.runs.journal(record.run_id, 0)) as journal:
        journal.append(Entry(EntryKind.SENT, 0, 2, detail={"held_usd": "5"}))
    assert status(lab).cost_usd == known  # what a budget sets aside is no cost
    lab.settings.providers_path.unlink()
    assert (status(lab).answered, status(lab).cost_usd) == (7, None)  # the last word on row 0 is no answer


async def test_what_was_paid_costs_what_it_cost_then(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        paid = status(lab).cost_usd
        assert paid
        for prices in ({"input": "10.00", "output": "20.00"}, None):
            lab.providers(simulator.base_url, prices=prices)
            assert status(lab).cost_usd == paid
        assert (await lab.run()).cost_usd == paid


async def test_answers_of_an_unknown_price_are_counted_as_published_ones_are(lab: Lab) -> None:
    """Nothing known is None; else the sum of what is known."""
    lab.table(8)
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, prices=None)
        await killed_before_publishing(lab, "run")
        assert (status(lab).answered, status(lab).cost_usd) == (8, None)
        assert (await lab.run()).cost_usd is None
        assert status(lab).cost_usd is None
        lab.table(16)
        lab.providers(simulator.base_url)
        await lab.run(limit=4)
        paid = status(lab).cost_usd
        lab.providers(simulator.base_url, prices=None)
        await killed_before_publishing(lab, "run")
        found = status(lab)
        assert (found.ok, found.answered, found.cost_usd) == (12, 4, paid)
        assert paid == (await lab.run()).cost_usd is not None


async def test_a_sample_was_cancelled_by_nobody(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator():
        await lab.run(limit=3)
    found = status(lab)
    assert (found.state, found.reason, found.pending) == ("stopped", "sample", 5)
    assert {row["llm_error_class"] for row in lab.rows("out__live") if row["llm_status"] == "pending"} == {"sample"}


@contextmanager
def looked_at(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RunStatus]]:
    """`status` at the moments when a slice's rows have ended and are not published yet."""
    seen: list[RunStatus] = []
    publish = publishing.publish_slice

    def look_first(*args: Any) -> None:
        seen.append(status(lab))
        publish(*args)

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "publish_slice", look_first)
        yield seen


def figures(found: RunStatus) -> tuple[int, ...]:
    assert found.ok + found.failed + found.pending == found.rows
    return found.ok, found.failed, found.answered, found.queued


@pytest.mark.parametrize("alike", [1, 2])
async def test_a_run_that_goes_on_after_a_sample_is_counted_with_what_it_adds(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, alike: int
) -> None:
    """While it runs and when it was killed; also rows that an equal row's answer is given to."""
    write_input(lab, id=range(12), text=[f"text {row // alike}" for row in range(12)], extra=range(12))
    async with lab.simulator():
        await lab.run(limit=3)
        sample, ok = status(lab), 3 * alike
        assert (figures(sample), sample.reason) == ((ok, 0, 0, 12 - ok), "sample")
        await killed_before_publishing(lab, "run")
        killed = status(lab)
        assert (killed.state, killed.reason) == ("stopped", None)
        assert figures(killed) == (ok, 0, 12 - ok, 0)
        with looked_at(lab, monkeypatch) as seen:
            summary = await lab.run()
    assert [(one.state, one.reason, figures(one)) for one in seen] == [("running", None, figures(killed))]
    assert killed.cost_usd == seen[0].cost_usd == summary.cost_usd
    assert (figures(status(lab)), status(lab).cost_usd) == ((12, 0, 0, 0), summary.cost_usd)


async def test_rows_published_before_a_kill_that_left_no_mark_are_counted_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died after the warehouse took the rows, before the journal was marked as published."""
    lab.table(8)
    async with lab.simulator():
        await lab.run(limit=3)
        published = status(lab)
    store = wiring.open_store(lab.settings)
    (record,) = store.runs.all()
    store.runs.journal_path(record.run_id, 0).with_suffix(".published").unlink()  # type: ignore[attr-defined]
    found = status(lab)
    assert (figures(found), found.cost_usd) == (figures(published), published.cost_usd)


async def test_answers_of_an_earlier_run_stay_counted_while_the_run_goes_on(lab: Lab) -> None:
    lab.table(8)
    async with lab.simulator():
        await lab.run()
        lab.table(14)
        await lab.run(limit=2)
        before = status(lab)
        assert (figures(before), before.cached) == ((10, 0, 0, 4), 8)
        await killed_before_publishing(lab, "run")
        killed = status(lab)
        assert (figures(killed), killed.cached) == ((10, 0, 4, 0), 8)
        assert killed.cost_usd == (await lab.run()).cost_usd


@pytest.mark.parametrize("carried", [True, False], ids=["carried", "own"])
async def test_a_retry_takes_its_rows_from_the_failed_ones(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, carried: bool
) -> None:
    """Failures of the run itself, and those that it carried from an earlier run."""
    monkeypatch.setenv("LOCAL_KEY", "sk-local-abcdef123456")
    fails = {"text 1", "text 2", "text 3"}

    async def answer(prompt: str) -> tuple[int, dict[str, Any]]:
        if prompt.removeprefix("Grade: ") in fails:
            return 400, {"error": {"message": "no", "type": "invalid_request_error"}}
        return 200, answered_body('{"tone": "calm", "score": 1}')

    async with compatible_server(lab, answer) as model:
        job = lab.job(model=model)
        lab.table(8)
        await lab.run(job)
        if carried:
            lab.table(9)
            await lab.run(job)
        ok = 6 if carried else 5
        assert figures(status(lab)) == (ok, 3, 0, 0)
        fails.remove("text 2")
        with looked_at(lab, monkeypatch) as seen:
            async with lab.engine(job) as engine:
                await engine.retry()
    assert [figures(one) for one in seen] == [(ok, 2, 1, 0)]
    assert figures(status(lab)) == (ok + 1, 2, 0, 0)


@pytest.mark.parametrize("allowed", [["calm", "tense", "glad"], ["calm"]])
async def test_a_reparse_that_was_killed_leaves_no_row_to_be_asked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, allowed: list[str]
) -> None:
    """Between its notes in the journals and the publication: also rows whose answers are not good any more."""
    lab.table(8)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    async with lab.simulator():
        summary = await lab.run()
    good = sum(row["tone"] in allowed for row in lab.rows())
    changed = lab.job(output={"table": "out", "schema": {**SCHEMA, "tone": {"enum": allowed}}, "keep": ["extra"]})
    monkeypatch.setattr(Reparser, "_published", killed)
    with pytest.raises(KeyboardInterrupt):
        await wiring.reparser(lab.settings, changed).reparse()
    assert EntryKind.ASKED_AS in {entry.kind for entry in journalled(lab, 0)}
    found = status(lab)
    assert (figures(found), found.state, found.cost_usd) == ((good, 8 - good, 0, 0), "finished", summary.cost_usd)
