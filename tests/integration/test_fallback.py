"""A job with `fallback`: the first model dies in the middle and returns; judged by both providers' own counts.

Belongs here: whole runs over two models. Not here: which model a row goes to (tests/unit/engine/test_tiers.py), several
accounts of one model (test_several_accounts.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_llm import wiring
from batch_llm.cli.status import status_of
from batch_llm.engine.events import FallbackBegan, FallbackEnded
from batch_llm.errors import ConfigurationError
from batch_llm.job.load import DeclaredJob
from batch_llm.simulator import Simulator, SimulatorConfig
from tests.integration.engine_lab import killed_after
from tests.integration.lab import FAST, Lab
from tests.ports import own_port

OWN, SPARE = "simulator/small", "spare/simulator/large"
OWN_PRICES, SPARE_PRICES = {"input": "1.00", "output": "2.00"}, {"input": "10.00", "output": "30.00"}
CONFIG = SimulatorConfig(latency_median_s=0.05)
DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.lab import Lab
lab = Lab(Path(sys.argv[1]))
job = lab.job(fallback=["spare/simulator/large"], slices={"rows": 150}, budget_usd="5")
print(asyncio.run(lab.run(job)).ok)
"""


class TwoModels(Lab):
    """The job's own model at a port of its own, and another provider's model, dearer, for the time it is away."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = own_port()

    def write_providers(self, spare: Simulator, kind: str = "openai_compatible", **changes: Any) -> None:
        """``changes``: keys of the spare's pool."""
        own = {"name": "main", "models": ["*"], "limits": {"requests_per_minute": 3_600}, "prices": OWN_PRICES}
        other = {"name": "main", "models": ["simulator/large"], "limits": FAST, "prices": SPARE_PRICES, **changes}
        url = spare.origin if kind == "anthropic" else spare.base_url
        specs = {
            "simulator": {"kind": "simulator", "base_url": f"http://127.0.0.1:{self.port}/v1", "pools": [own]},
            "spare": {"kind": kind, "base_url": url, "api_key": "${env:SPARE_KEY}", "pools": [other]},
        }
        (self.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": specs}))

    @asynccontextmanager
    async def own(self) -> AsyncIterator[Simulator]:
        """The job's own model, while it is there."""
        async with Simulator(CONFIG, port=self.port) as simulator:
            yield simulator

    def with_fallback(self, **changes: Any) -> DeclaredJob:
        return self.job(fallback=[SPARE], **changes)

    def by_model(self, place: str = "out") -> Counter[str]:
        """The output's rows by the model that they name."""
        return Counter(f"{row['llm_provider']}/{row['llm_model']}" for row in self.rows(place))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoModels:
    monkeypatch.setenv("SPARE_KEY", "any")
    return TwoModels(tmp_path)


def billed_usd(stats: dict[str, Any], prices: dict[str, str]) -> Decimal:
    """What a simulator's own count of tokens costs."""
    return (
        stats["input_tokens"] * Decimal(prices["input"]) + stats["output_tokens"] * Decimal(prices["output"])
    ) / 1_000_000


async def test_rows_go_to_the_fallback_while_the_model_is_away_and_return(lab: TwoModels) -> None:
    """No row is lost; each says who answered it, at whose price; the next run asks nothing."""
    lab.table(900)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare, limits={"requests_per_minute": 1_800})
        async with lab.own() as before:
            running = asyncio.create_task(lab.run(lab.with_fallback()))
            while before.stats()["answered"] < 150:
                await asyncio.sleep(0.02)
        while spare.stats()["answered"] < 200:
            await asyncio.sleep(0.02)
        async with lab.own() as after:
            summary = await running
            again = await lab.run(lab.with_fallback())
            stats = [each.stats() for each in (before, after, spare)]
    own_count, spare_count = stats[0]["answered"] + stats[1]["answered"], stats[2]["answered"]
    assert (summary.rows, summary.ok, summary.failed) == (900, 900, 0)
    assert lab.by_model() == {OWN: own_count, SPARE: spare_count}
    assert stats[1]["answered"] > 50 and own_count + spare_count == 900
    paid = {OWN: Decimal(0), SPARE: Decimal(0)}
    versions: dict[str, set[str]] = {OWN: set(), SPARE: set()}
    for row in lab.rows():
        name = f"{row['llm_provider']}/{row['llm_model']}"
        paid[name] += row["llm_cost_usd"]
        versions[name].add(row["llm_price_version"])
    assert paid[SPARE] == billed_usd(stats[2], SPARE_PRICES)
    assert paid[OWN] == billed_usd(stats[0], OWN_PRICES) + billed_usd(stats[1], OWN_PRICES)
    assert len(versions[OWN]) == len(versions[SPARE]) == 1 and versions[OWN] != versions[SPARE]
    assert again.nothing_to_do
    told = [event for event in lab.events if isinstance(event, FallbackBegan | FallbackEnded)]
    assert [type(event) for event in told] == [FallbackBegan, FallbackEnded]


async def test_a_run_killed_while_the_fallback_works_goes_on(lab: TwoModels) -> None:
    """Each row once; what is paid is what both providers counted, less what was in flight and never heard of."""
    lab.table(400)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare)
        in_flight = await killed_after(lab, spare, 120, DRIVER)  # the job's own model is not there at all
        job = lab.with_fallback(slices={"rows": 150}, budget_usd="5")
        at_kill = spare.stats()["answered"]
        async with lab.own() as own:
            summary = await lab.run(job)
            stats = own.stats(), spare.stats()
            again = await lab.run(job)
    assert (summary.rows, summary.ok, summary.pending) == (400, 400, 0)
    assert [row["id"] for row in lab.rows()] == list(range(400))
    assert 0 <= stats[0]["answered"] + stats[1]["answered"] - 400 <= in_flight
    assert stats[1]["answered"] == at_kill
    counts = lab.by_model()
    assert counts[OWN] == stats[0]["answered"] and at_kill - in_flight <= counts[SPARE] <= at_kill
    paid = sum(row["llm_cost_usd"] for row in lab.rows() if row["llm_model"] == "small")
    assert paid == billed_usd(stats[0], OWN_PRICES)
    costs = [row["llm_cost_usd"] for row in lab.rows() if row["llm_model"] != "small"]
    unheard_usd = billed_usd(stats[1], SPARE_PRICES) - sum(costs)
    assert 0 <= unheard_usd <= (at_kill - counts[SPARE]) * max(costs)
    assert again.nothing_to_do


async def test_a_fallback_of_another_kind_is_asked_and_read_as_its_own(lab: TwoModels) -> None:
    """Anthropic's way of asking and answering, in the place of OpenAI's; also when the answers are read once more."""
    lab.table(60)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare, kind="anthropic")
        summary = await lab.run(lab.with_fallback())
        asked = spare.stats()["answered"]
        changed = lab.job(output={"table": "other", "schema": {"tone": "string", "score": "number"}, "keep": ["extra"]})
        reparsed = await wiring.reparser(lab.settings, changed).reparse()
    assert (summary.ok, asked) == (60, 60)
    assert lab.by_model() == {SPARE: 60}
    assert {row["tone"] for row in lab.rows()} <= {"calm", "tense"}
    assert reparsed.summary.ok == 60 and lab.by_model("other") == {SPARE: 60}
    assert all(isinstance(row["score"], float) for row in lab.rows("other"))
    assert sum(row["llm_cost_usd"] for row in lab.rows("other")) == summary.cost_usd


async def test_without_the_fallback_its_rows_stay_as_they_are(lab: TwoModels) -> None:
    """The job drops it when its model is there again: what was paid is not paid again, nor judged otherwise."""
    lab.table(40)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare, kind="anthropic")
        await lab.run(lab.with_fallback(), limit=25)
        async with lab.own() as own:
            summary = await lab.run(lab.job())
            async with lab.engine(lab.job()) as engine:
                retried = await engine.retry()
            assert own.stats()["answered"] == 15
    assert (summary.ok, retried.ok) == (40, 40)
    assert lab.by_model() == {OWN: 15, SPARE: 25}


async def test_a_dropped_model_that_nobody_knows_any_more_is_told_and_nothing_is_paid_again(lab: TwoModels) -> None:
    """What it said can be read only by its kind: better no run than a second bill."""
    lab.table(20)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare, kind="anthropic")
        await lab.run(lab.with_fallback(), limit=12)
        path = lab.folder / "providers.yaml"
        specs = yaml.safe_load(path.read_text())
        del specs["providers"]["spare"]
        path.write_text(yaml.safe_dump(specs))
        async with lab.own() as own:
            with pytest.raises(ConfigurationError, match="rows of job lab were answered by spare/simulator/large"):
                await lab.run(lab.job())
            assert own.stats()["accepted"] == 0


async def test_a_fallbacks_answers_are_no_other_jobs(lab: TwoModels) -> None:
    """Equal rows of the job have them; another job that asks the same of the first model asks it."""
    lab.table(40, text="the same for all")
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare)
        await lab.run(lab.with_fallback())
        asked = spare.stats()["answered"]
        async with lab.own() as own:
            other = lab.job(name="other", output={"table": "other"} | {"schema": {"tone": "string"}})
            await lab.run(other)
            same = lab.job(name="same", output={"table": "same", "schema": lab.job().job.output.answer_schema})
            summary = await lab.run(same)
            assert own.stats()["answered"] == 2
    assert asked == 1 and lab.by_model() == {SPARE: 40}
    assert sum(row["llm_cached"] for row in lab.rows()) == 39
    assert summary.ok == 40 and lab.by_model("same") == {OWN: 40}


async def test_what_a_plan_says_of_a_fallback_and_a_summary_of_who_answered(lab: TwoModels) -> None:
    """The cost if all rows went there, at its own price; such a run costs no more than the high end."""
    lab.table(50)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare)
        plan = wiring.planner(lab.settings, lab.with_fallback()).plan()
        summary = await lab.run(lab.with_fallback())
    (other,) = plan.fallbacks
    assert other.model == SPARE and other.cost_low_usd is not None and other.cost_high_usd is not None
    assert plan.cost_expected_usd is not None and other.cost_expected_usd is not None
    assert 10 < other.cost_expected_usd / plan.cost_expected_usd < 15
    assert summary.cost_usd is not None and summary.cost_usd <= other.cost_high_usd
    assert summary.rows_by_model == {SPARE: 50}
    store = wiring.open_store(lab.settings)
    assert status_of(store, store.runs.all("lab")[0]).rows_by_model == {SPARE: 50}


async def test_a_budget_too_small_for_one_row_of_a_fallback_is_told_beforehand(lab: TwoModels) -> None:
    lab.table(3)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare)
        plan = wiring.planner(lab.settings, lab.with_fallback(budget_usd="0.003")).plan()
    (told,) = [warning for warning in plan.warnings if "set aside" in warning]
    assert "are set aside while a long row is asked of spare/simulator/large: such a row is not sent" in told


async def test_a_budget_wants_every_models_price(lab: TwoModels) -> None:
    lab.table(3)
    async with Simulator(CONFIG) as spare:
        lab.write_providers(spare, prices=None)
        with pytest.raises(ConfigurationError, match="budget_usd: the price of spare/simulator/large is unknown"):
            wiring.planner(lab.settings, lab.with_fallback(budget_usd="1")).plan()
