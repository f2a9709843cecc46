"""`reparse`: stored answers under another schema, or a mended parser; nothing is asked, no key is needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from batch_llm import wiring
from batch_llm.engine import reparse as reparse_module
from batch_llm.engine.parts import request_hash
from batch_llm.engine.reparse import Reparsed
from batch_llm.errors import ConfigurationError, OutputError
from batch_llm.job import schema as schema_module
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunState
from tests.integration.cli_lab import CommandLine
from tests.integration.engine_lab import answered_body, compatible_server, killed_before_publishing
from tests.integration.lab import SCHEMA, Lab

NARROW = {"tone": {"enum": ["calm"]}, "score": "number"}
ROWS = 10  # every second one is tense


class Tones:
    """A provider that finds even texts calm and odd ones tense, and counts."""

    def __init__(self, text: str = "{}") -> None:
        self.text = text
        self.asked: list[str] = []

    async def answer(self, prompt: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(prompt)
        number = int(prompt.rsplit(maxsplit=1)[-1])
        said = orjson.dumps({"tone": "tense" if number % 2 else "calm", "score": number}).decode()
        return 200, answered_body(self.text.format(said))


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("LOCAL_KEY", "k")
    return monkeypatch


def the_job(lab: Lab, schema: Any, **changes: Any) -> DeclaredJob:
    output = {"table": "out", "schema": schema, "keep": ["extra"]}
    return lab.job(**{"model": "local/x", "output": output, "retries": {"attempts": 2, "re_asks": 0}, **changes})


@asynccontextmanager
async def answered(lab: Lab, schema: Any, tones: Tones | None = None) -> AsyncIterator[Tones]:
    """The job has run once, in three slices; the provider stays."""
    tones = tones or Tones()
    lab.table(ROWS)
    async with compatible_server(lab, tones.answer):
        await lab.run(the_job(lab, schema, slices={"rows": 4}))
        tones.asked.clear()
        yield tones


async def reparse(lab: Lab, job: DeclaredJob) -> Reparsed:
    return await wiring.reparser(lab.settings, job).reparse()


def statuses(lab: Lab, place: str = "out") -> list[str]:
    return [row["llm_error_class"] or row["llm_status"] for row in lab.rows(place)]


async def test_a_narrower_schema_fails_what_does_not_fit(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """Then `run` has nothing to do, and `retry` asks just those."""
    async with answered(lab, SCHEMA) as tones:
        narrow = the_job(lab, NARROW)
        done = await reparse(lab, narrow)
        assert done.moves == {("ok", "ok"): 5, ("ok", "schema_mismatch"): 5}
        assert (done.summary.ok, done.summary.failed, done.summary.pending) == (5, 5, 0)
        assert statuses(lab) == ["ok", "schema_mismatch"] * 5
        assert [row["tone"] for row in lab.rows()] == ["calm", None] * 5
        assert (await lab.run(narrow)).nothing_to_do
        assert tones.asked == []
        async with lab.engine(narrow) as engine:
            await engine.retry()
        assert sorted(tones.asked) == [f"Grade: text {number}" for number in range(1, ROWS, 2)]


async def test_a_wider_schema_saves_what_had_failed(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """Costs and tokens stay what they were; a longer table asks its new row only, by the new request's hash."""
    async with answered(lab, NARROW) as tones:
        paid = [(row["llm_cost_usd"], row["llm_input_tokens"], row["llm_attempts"]) for row in lab.rows()]
        wide = the_job(lab, SCHEMA)
        done = await reparse(lab, wide)
        assert done.moves == {("ok", "ok"): 5, ("schema_mismatch", "ok"): 5}
        assert statuses(lab) == ["ok"] * ROWS
        assert [(row["llm_cost_usd"], row["llm_input_tokens"], row["llm_attempts"]) for row in lab.rows()] == paid
        parts = wiring.planner(lab.settings, wide).parts
        made = [request_hash(parts.request({"id": n, "text": f"text {n}"}, ""), "local/x") for n in range(ROWS)]
        assert [row["llm_request_hash"] for row in lab.rows()] == made
        assert (await lab.run(wide)).nothing_to_do
        lab.table(ROWS + 1)
        assert (await lab.run(wide)).ok == ROWS + 1
        assert tones.asked == [f"Grade: text {ROWS}"]


async def test_a_retry_does_not_ask_what_was_saved(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """And what the saved rows cost stays with them."""
    async with answered(lab, {"tone": {"enum": ["none"]}, "score": "number"}) as tones:
        narrow = the_job(lab, NARROW)
        await reparse(lab, narrow)
        saved = lab.rows()[::2]
        async with lab.engine(narrow) as engine:
            await engine.retry()
        assert sorted(tones.asked) == [f"Grade: text {number}" for number in range(1, ROWS, 2)]
        assert lab.rows()[::2] == saved


async def test_there_and_back_changes_nothing(lab: Lab, key: pytest.MonkeyPatch) -> None:
    async with answered(lab, SCHEMA) as tones:
        before = lab.rows()
        await reparse(lab, the_job(lab, NARROW))
        done = await reparse(lab, the_job(lab, SCHEMA))
        assert done.moves == {("ok", "ok"): 5, ("schema_mismatch", "ok"): 5}
        assert lab.rows() == before
        assert tones.asked == []


async def test_other_columns(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """One more that may be missing: added. Another type: refused, and a new table takes it."""
    async with answered(lab, SCHEMA) as tones:
        schema = {
            "type": "object",
            "properties": {"tone": SCHEMA["tone"], "score": {"type": "number"}, "why": {"type": "string"}},
            "required": ["tone", "score"],
        }
        done = await reparse(lab, the_job(lab, schema))
        assert done.moves == {("ok", "ok"): ROWS}
        assert {row["why"] for row in lab.rows()} == {None}
        whole = {"tone": {"enum": ["calm", "tense"]}, "score": "integer"}
        with pytest.raises(OutputError, match=r"column 'score' is DOUBLE there.*change output\.table"):
            await reparse(lab, the_job(lab, whole))
        assert statuses(lab) == ["ok"] * ROWS
        output = {"table": "whole", "schema": whole, "keep": ["extra"]}
        await reparse(lab, the_job(lab, whole, output=output))
        assert [row["score"] for row in lab.rows("whole")] == list(range(ROWS))
        assert tones.asked == []


async def test_a_mended_parser_reads_what_it_could_not(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """No key is set any more: none is needed. The schema is the same, so the record keeps its signature."""
    async with answered(lab, SCHEMA, Tones('<answer>{}</answer> {{"tone": "tense", "score": -1}}')) as tones:
        assert statuses(lab) == ["schema_mismatch"] * ROWS
        key.delenv("LOCAL_KEY")
        read = schema_module.read_json
        key.setattr(schema_module, "read_json", lambda text: read(text.split("<answer>")[-1].split("</answer>")[0]))
        done = await reparse(lab, the_job(lab, SCHEMA))
        assert (done.schema_changed, done.moves) == (False, {("schema_mismatch", "ok"): ROWS})
        assert statuses(lab) == ["ok"] * ROWS
        assert (await reparse(lab, the_job(lab, SCHEMA))).moves == {("ok", "ok"): ROWS}
        assert tones.asked == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": {"user": "Rate: {{ text }}"}}, "prompt"),
        ({"params": {"max_output_tokens": 100}}, "params"),
        ({"output": {"table": "out", "schema": NARROW}}, "output.keep"),
    ],
)
async def test_another_question_is_refused(lab: Lab, key: pytest.MonkeyPatch, changes: Any, named: str) -> None:
    async with answered(lab, SCHEMA):
        before = lab.rows()
        with pytest.raises(ConfigurationError, match=f"{named} changed since run"):
            await reparse(lab, the_job(lab, NARROW, **changes))
        assert lab.rows() == before


async def test_a_run_killed_before_it_published(lab: Lab) -> None:
    """Its answers are in the journal: `reparse` brings them in, and `run` has nothing to do."""
    lab.table(ROWS)
    async with lab.simulator() as simulator:
        await killed_before_publishing(lab, "run")
        done = await reparse(lab, lab.job())
        assert done.moves == {("ok", "ok"): ROWS}
        assert statuses(lab) == ["ok"] * ROWS
        assert (await lab.run()).nothing_to_do
        assert simulator.stats()["answered"] == ROWS


async def test_a_sample_stays_resumable(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """Of an unfinished run the pending rows stay pending, and the next `run` asks them and no others."""
    tones = Tones()
    lab.table(ROWS)
    async with compatible_server(lab, tones.answer):
        await lab.run(the_job(lab, SCHEMA), limit=4)
        done = await reparse(lab, the_job(lab, NARROW))
        assert done.moves == {("ok", "ok"): 2, ("ok", "schema_mismatch"): 2, ("pending", "pending"): 6}
        runs = wiring.open_store(lab.settings).runs
        record = runs.latest("lab")
        assert record is not None
        assert record.state is RunState.PLANNED
        assert (await lab.run(the_job(lab, NARROW))).run_id == record.run_id
        assert len(tones.asked) == ROWS


async def test_interrupted_it_is_finished_by_the_same_command(lab: Lab, key: pytest.MonkeyPatch) -> None:
    async with answered(lab, NARROW) as tones:
        publish, published = reparse_module.publish_slice, []

        def killed(work: Any, pending: Any) -> None:
            if published:
                raise KeyboardInterrupt
            published.append(work.number)
            publish(work, pending)

        key.setattr(reparse_module, "publish_slice", killed)
        reparser = wiring.reparser(lab.settings, the_job(lab, SCHEMA))
        record = reparser._record()
        reparser._judge_again(record)
        with pytest.raises(KeyboardInterrupt):
            reparser._published(record, anew=True)
        key.setattr(reparse_module, "publish_slice", publish)
        done = await reparse(lab, the_job(lab, SCHEMA))
        assert (done.summary.ok, statuses(lab), tones.asked) == (ROWS, ["ok"] * ROWS, [])


async def test_rows_of_earlier_runs_are_named(lab: Lab, key: pytest.MonkeyPatch) -> None:
    """Their answers lie in another journal: pending in this run, as they were in the output table."""
    async with answered(lab, SCHEMA):
        lab.table(ROWS + 2)
        await lab.run(the_job(lab, SCHEMA))
        done = await reparse(lab, the_job(lab, NARROW))
        assert done.moves == {
            ("ok", "pending (answered in an earlier run)"): ROWS,
            ("ok", "ok"): 1,
            ("ok", "schema_mismatch"): 1,
        }
        assert statuses(lab) == [*["ok"] * ROWS, "ok", "schema_mismatch"]


async def test_the_command_says_how_rows_moved(lab: Lab) -> None:
    lab.table(ROWS)
    cli = CommandLine(lab)
    job = cli.job_file()
    async with lab.simulator():
        assert (await cli.run("run", job, "--yes")).code == 0
    said = await cli.run("reparse", job, "--json")
    assert said.code == 0
    assert said.json["moves"] == [{"before": "ok", "after": "ok", "rows": ROWS}]
    assert (said.json["requests"], said.json["schema_changed"]) == (0, False)
    words = await cli.run("reparse", "lab")
    assert "10 rows judged again, nothing asked" in words.out
    again = cli.job_file(prompt={"user": "Other: {{ text }}"})
    refused = await cli.run("reparse", again)
    assert refused.code == 2
    assert "prompt changed since run" in refused.err
