"""A plan on a real home: what it looks at, what it says, what the end is compared with, what the next one knows."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_llm import wiring
from batch_llm.cli.exits import Exit, exit_for_error
from batch_llm.cli.forget import forget_runs
from batch_llm.config.settings import IN_PROCESS
from batch_llm.engine.planned import Planned
from batch_llm.engine.planning import Plan
from batch_llm.errors import ConfigurationError, WarehouseRefused
from tests.integration.lab import FAST, SCHEMA, Lab

FREE: dict[str, Any] = {"output": {"table": "out"}}


def plan_of(lab: Lab, **changes: Any) -> Plan:
    return wiring.planner(lab.settings, lab.job(**changes)).plan()


def texts(lab: Lab, sizes: list[int]) -> None:
    """A table with texts of these lengths."""
    columns = {
        "id": list(range(len(sizes))),
        "text": [f"{row:03} " + "word " * (size // 5) for row, size in enumerate(sizes)],
        "extra": [0] * len(sizes),
    }
    pq.write_table(pa.table(columns), lab.folder / "input.parquet")


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/home"])
@pytest.mark.parametrize("command", ["plan", "run"])
async def test_a_home_that_cannot_be_made_is_refused_in_words(lab: Lab, place: str, command: str) -> None:
    """By each as what the user can mend: nothing was spent."""
    lab.table(3)
    (lab.folder / "file").touch()
    home = {"a file": lab.folder / "file", "below a file": lab.folder / "file" / "home"}.get(place, Path(place))
    lab.settings = replace(lab.settings, home=home, redis_url=IN_PROCESS)
    async with lab.simulator() as simulator:
        with pytest.raises((ConfigurationError, WarehouseRefused), match=r"cannot be written.* BATCH_LLM_HOME") as told:
            await (lab.run() if command == "run" else asyncio.to_thread(plan_of, lab))
        assert exit_for_error(told.value) is Exit.USAGE and simulator.stats()["accepted"] == 0


async def test_a_sorted_table_is_planned_and_paid_alike(lab: Lab) -> None:
    """Free text and a model whose tokens nobody can count: known after 200 answers, and then right within 10 %."""
    chance = random.Random(3)
    texts(lab, sorted(chance.randint(20, 900) for _ in range(600)))
    async with lab.simulator(chars_per_token=2.6):
        first = plan_of(lab, **FREE)
        assert (first.output_from, first.counted) == ("nothing known: widest range", "estimated")
        summary = await lab.run(lab.job(**FREE))
    plan = summary.planned
    assert plan is not None and plan.after_answers >= 200
    assert plan.first_cost_usd == first.cost_expected_usd
    assert summary.planned_cost_usd is not None and summary.cost_usd is not None
    assert abs(summary.cost_usd / summary.planned_cost_usd - 1) < Decimal("0.1")
    assert plan.cost_low_usd is not None and plan.cost_high_usd is not None
    assert plan.cost_low_usd <= summary.cost_usd <= plan.cost_high_usd
    assert summary.input_tokens == pytest.approx(plan.input_tokens, rel=0.1)


async def test_a_schema_needs_no_answers_to_be_planned(lab: Lab) -> None:
    lab.table(400)
    async with lab.simulator():
        plan = plan_of(lab)
        summary = await lab.run()
    assert plan.output_from == "the schema"
    assert summary.output_tokens == pytest.approx(plan.output_tokens_total, rel=0.1)
    assert plan.output_tokens_low <= summary.output_tokens <= plan.output_tokens_high


async def test_what_a_preview_learned_is_in_the_plan_after_it(lab: Lab) -> None:
    lab.table(50)
    async with lab.simulator():
        before = plan_of(lab, **FREE)
        async with lab.engine(lab.job(**FREE)) as engine:
            await engine.run(limit=5, promote_after=False)
        after = plan_of(lab, **FREE)
        summary = await lab.run(lab.job(**FREE))
    assert after.output_from == "5 answers of this job"
    assert after.output_tokens_high - after.output_tokens_low < before.output_tokens_high - before.output_tokens_low
    assert summary.planned is not None
    assert (summary.planned.after_answers, summary.planned.rows) == (5, 50)


async def test_a_new_process_and_a_changed_prompt_begin_with_what_was_learned(lab: Lab) -> None:
    lab.table(120)
    async with lab.simulator(chars_per_token=2.0):
        await lab.run(lab.job(**FREE))
        lab.table(40, start=500)
        assert plan_of(lab, **FREE).output_from.endswith("answers of this job")
        changed = plan_of(lab, **FREE, prompt={"user": "Rate: {{ text }}"})
        assert changed.output_from == "answers to an earlier question of this job"
        summary = await lab.run(lab.job(**FREE, prompt={"user": "Rate: {{ text }}"}))
    assert summary.input_tokens == pytest.approx(changed.input_tokens_total, rel=0.1)


@pytest.mark.parametrize("params", [{"max_output_tokens": 300}, {"max_output_tokens": "auto"}, {}])
async def test_a_changed_cap_is_another_question_and_the_plan_says_so(lab: Lab, params: dict[str, Any]) -> None:
    lab.table(5)
    async with lab.simulator():
        await lab.run(lab.job(**FREE))
        plan = plan_of(lab, **FREE, params=params)
    assert (plan.changed, plan.done) == (5, 0)
    assert plan.output_from == "answers to an earlier question of this job"


async def test_only_rows_to_ask_are_planned(lab: Lab) -> None:
    lab.table(60)
    async with lab.simulator():
        await lab.run()
        lab.table(90)
        plan = plan_of(lab)
        assert (plan.new, plan.changed, plan.done) == (30, 0, 60)
        assert plan.counted_rows == 30
        other = plan_of(lab, prompt={"user": "Rate: {{ text }}"})
        assert (other.new, other.changed, other.done) == (30, 60, 0)
        record = wiring.planner(lab.settings, lab.job()).start().record
    planned = Planned.from_data(record.planned)
    assert planned is not None and planned.rows == 30


async def test_a_prompt_that_is_the_same_for_every_row_is_warned_of(lab: Lab) -> None:
    lab.table(3)
    async with lab.simulator():
        assert not any("names no column" in warning for warning in plan_of(lab).warnings)
        assert any("names no column" in warning for warning in plan_of(lab, prompt={"user": "Hello"}).warnings)


async def test_rows_that_cannot_be_rendered_cost_nothing(lab: Lab) -> None:
    lab.table(20)
    async with lab.simulator():
        plan = plan_of(lab, prompt={"user": "{{ 1 // (extra - 3) }} {{ text }}"})
    assert any("rows cannot be rendered and will fail without a call" in warning for warning in plan.warnings)


@pytest.mark.parametrize("distinct", [1, 60, 3_000, 6_000])
async def test_a_sample_of_many_rows_does_not_hide_that_they_are_equal(lab: Lab, distinct: int) -> None:
    """About 1,000 of 6,000 rows are drawn; a third is one text, the others are of so many, in turn."""
    numbers = [0] * (2_000 if distinct < 6_000 else 0)
    numbers += [number % distinct for number in range(6_000 - len(numbers))]
    texts = [f"a text of some length, number {number:05}" for number in numbers]
    pq.write_table(pa.table({"id": list(range(6_000)), "text": texts}), lab.folder / "input.parquet")
    job = {"prompt": {"user": "{{ text }}"}, "output": {"table": "out"}, "slices": {"rows": 2_500}}
    async with lab.simulator() as simulator:
        plan = plan_of(lab, **job)
        assert (plan.free, plan.counted_rows < 6_000) == (6_000 - distinct, True)
        assert plan.input_tokens_total == pytest.approx(distinct * plan.input_tokens_p50, rel=0.02)
        assert plan_of(lab, **job, cache="off").input_tokens_total == pytest.approx(
            6_000 * plan.input_tokens_p50, rel=0.02
        )
        if distinct == 60:
            assert (await lab.run(lab.job(**job))).ok == 6_000
            assert simulator.stats()["answered"] == distinct


async def test_equal_rows_and_answers_of_another_job_are_planned_to_cost_nothing(lab: Lab) -> None:
    lab.table(20, text="the same")
    other = {"name": "other", "output": {"table": "mine"}}
    async with lab.simulator():
        plan = plan_of(lab, **FREE)
        assert (plan.new, plan.free, plan.input_tokens_p50) == (20, 19, plan.input_tokens_total)
        assert plan_of(lab, **FREE, cache="off").free == 0
        assert (await lab.run(lab.job(**FREE))).requests == 1
        again = plan_of(lab, **other)
        assert (again.new, again.free, again.cost_high_usd) == (20, 20, 0)
        assert (await lab.run(lab.job(**other))).requests == 0


async def test_where_only_the_schema_changed_the_plan_names_what_costs_nothing(lab: Lab) -> None:
    lab.table(4)
    wider = {"output": {"table": "out", "schema": {**SCHEMA, "why": "string"}, "keep": ["extra"]}}
    async with lab.simulator():
        await lab.run()
        plan = plan_of(lab, **wider)
        assert plan.changed == 4
        assert any("`batch-llm reparse lab` judges its answers" in warning for warning in plan.warnings)
        for changes in ({"prompt": {"user": "Rate: {{ text }}"}, **wider}, {"params": {"max_output_tokens": 90}}, {}):
            assert not any("reparse" in warning for warning in plan_of(lab, **changes).warnings)


async def test_rows_that_are_too_long_for_the_model_cost_nothing(lab: Lab) -> None:
    texts(lab, [50] * 7 + [9_000] * 3)
    async with lab.simulator() as simulator:
        lab.providers(simulator.base_url, context_tokens=1_000)
        plan = plan_of(lab)
        assert "3 rows are too long for the model and will fail without a call" in plan.warnings
        assert (plan.new, plan.input_tokens_total < 7 * 100) == (10, True)
        assert not any("word word word word word word word word word word word word" in text for text in plan.prompts)
        summary = await lab.run()
    assert (summary.ok, summary.failed) == (7, 3)
    assert summary.planned is not None and summary.planned.rows == 7


async def test_what_failed_without_a_call_is_not_planned_to_be_paid(lab: Lab) -> None:
    """Such a row has no request to compare: it has failed, and costs nothing, whatever became of the input."""
    lab.table(10)
    broken = {"user": "{{ 1 // (extra - 3) }} {{ text }}"}
    async with lab.simulator():
        summary = await lab.run(lab.job(prompt=broken))
        assert summary.failed == 1
        plan = plan_of(lab, prompt=broken)
        assert (plan.new, plan.changed, plan.done, plan.failed, plan.cost_high_usd) == (0, 0, 9, 1, 0)
        lab.table(12)
        plan = plan_of(lab, prompt=broken)
        assert plan.new == 2 and plan.input_tokens_total < 2 * 40
        assert "2 rows cannot be rendered and will fail without a call" in plan.warnings
        assert (plan.changed, plan.failed, plan.done) == (0, 1, 9)


@pytest.mark.parametrize(
    ("budget", "words"),
    [("0.0015", "less than the least this will cost"), ("5", None)],
)
async def test_a_budget_that_is_too_small_is_told_beforehand(lab: Lab, budget: str, words: str | None) -> None:
    lab.table(200)
    async with lab.simulator():
        found = plan_of(lab, budget_usd=budget).warnings
    assert any(words in warning for warning in found) if words else not any("budget" in warning for warning in found)


async def test_a_budget_below_any_row_is_refused_before_anything(lab: Lab) -> None:
    """By plan and run alike: the same run would ask nothing however often it is started."""
    lab.table(2)
    poor: dict[str, Any] = {"budget_usd": "0.05", "params": {}, **FREE}
    helps = r"budget_usd 0.05 pays for no row.*Raise budget_usd above 0.262807, or set params.max_output_tokens"
    async with lab.simulator() as simulator:
        with pytest.raises(ConfigurationError, match=helps):
            plan_of(lab, **poor)
        with pytest.raises(ConfigurationError, match=helps):
            await lab.run(lab.job(**poor))
        assert simulator.stats()["accepted"] == 0 and wiring.open_store(lab.settings).runs.all() == []
        summary = await lab.run(lab.job(**{**poor, "params": {"max_output_tokens": 50}}))
        assert (summary.ok, summary.stopped) == (2, None)


async def test_a_finished_run_minds_no_budget(lab: Lab) -> None:
    lab.table(2)
    async with lab.simulator():
        await lab.run(lab.job(**FREE, params={}))
        poor = lab.job(**FREE, params={}, budget_usd="0.05")
        assert (await lab.run(poor)).nothing_to_do
        assert wiring.planner(lab.settings, poor).plan().new == 0


async def test_a_budget_below_one_long_row_is_told_beforehand(lab: Lab) -> None:
    texts(lab, [20_000] * 3)
    async with lab.simulator():
        found = plan_of(lab, budget_usd="0.001", params={"max_output_tokens": 50}).warnings
    assert any("set aside while a long row is asked" in warning for warning in found)


async def test_forgetting_a_job_forgets_what_it_taught(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.table(10)
    async with lab.simulator():
        await lab.run()
        assert (lab.settings.home / "learned" / "lab.json").exists()
        monkeypatch.setenv("BATCH_LLM_HOME", str(lab.settings.home))
        forget_runs("lab")
    assert not (lab.settings.home / "learned" / "lab.json").exists()


async def test_a_home_that_takes_no_file_loses_what_was_learned_and_nothing_else(lab: Lab) -> None:
    lab.table(10)
    lab.settings.home.mkdir()
    (lab.settings.home / "learned").write_text("in the way")
    async with lab.simulator():
        summary = await lab.run()
    assert (summary.ok, summary.failed) == (10, 0)


async def test_a_record_without_a_plan_is_still_run(lab: Lab) -> None:
    """Runs that were planned by an older version."""
    lab.table(10)
    async with lab.simulator():
        record = wiring.planner(lab.settings, lab.job()).start().record
        wiring.open_store(lab.settings).runs.save(replace(record, planned=None))
        summary = await lab.run()
    assert summary.ok == 10
    assert (summary.planned, summary.planned_cost_usd) == (None, None)


@pytest.mark.parametrize("table", ["beige_book", "arxiv_qfin", "wordnet_glosses"])
def test_real_tables_are_extrapolated_within_a_per_cent(tmp_path: Path, table: str) -> None:
    """Sorted by year, by month, by part of speech; skipped where the tables are not at hand."""
    source = Path(__file__).parents[2].parent / "shared" / "data" / f"{table}.parquet"
    if not source.exists():
        pytest.skip("the real tables are not on this machine")
    key, text = {
        "beige_book": ("report_id", "text"),
        "arxiv_qfin": ("arxiv_id", "abstract"),
        "wordnet_glosses": ("synset_id", "definition"),
    }[table]
    lab = Lab(tmp_path)
    lab.providers("http://127.0.0.1:9", FAST)
    plan = plan_of(lab, input={"table": str(source), "key": [key]}, prompt={"user": f"Grade: {{{{ {text} }}}}"}, **FREE)
    sizes = [len(value.encode()) for value in pq.read_table(source, columns=[text])[text].to_pylist()]
    by_hand = sum((size + 7) / 4 + 7 for size in sizes)  # 4 bytes per token, framing
    assert plan.input_tokens_total == pytest.approx(by_hand, rel=0.01)
    assert plan.counted_rows <= 1_001
