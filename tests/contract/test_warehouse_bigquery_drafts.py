"""What a plan has frozen is used by the run (and by the next plan) of the same, and by nobody else.

Belongs here: drafts. Not here: freezing itself (test_warehouse*.py), the plan (tests/integration/test_bigquery_run.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from google.cloud import bigquery as gcloud

from batch_llm.errors import InputError
from batch_llm.statement_costs import StatementCost
from batch_llm.warehouse.base import FreezeSpec, FrozenInput
from batch_llm.warehouse.bigquery import Options, open_client
from tests.bigquery_server.process import BigQueryServer, Fault
from tests.contract.bigquery_warehouse_lab import hasty, on_another_machine, read_all
from tests.contract.warehouse_lab import BigQueryLab, input_table, spec

ROWS = 10
MINUTE = 60
DAY = 24 * 60 * MINUTE


class PlanLab(BigQueryLab):
    """Notes which statements ran; ``texts`` is there."""

    def __init__(self, home: Path) -> None:
        self.ran: list[StatementCost] = []
        super().__init__(home, options=Options(patience=hasty(), on_statement=lambda _, cost: self.ran.append(cost)))
        self.put("texts", input_table(ROWS))

    def names(self) -> list[str]:
        """Of the statements since the last look."""
        names = [cost.name for cost in self.ran]
        self.ran.clear()
        return names

    def plan(self, wanted: FreezeSpec) -> FrozenInput:
        """Freeze for a plan that ends well."""
        frozen = self.warehouse.freeze_for_plan(replace(wanted, run_id="plan-1"))
        assert len(read_all(self.warehouse, frozen)) == frozen.rows
        self.warehouse.forget("plan-1")
        return frozen

    def tables(self) -> set[str]:
        """Our own tables."""
        with open_client(self.project) as client:
            found = {entry.table_id for entry in client.list_tables(f"{self.project}.tables")}
        return {name for name in found if name.startswith("batch_llm_")}


def test_how_long_a_run_may_take_the_rows_over_is_known_before(lab: PlanLab) -> None:
    """A day for a whole table, 15 minutes with a filter (it may look at the clock); never where each sees its own."""
    for where, minutes in ((None, 24 * 60), ("id != 'x'", 15), ("id != SESSION_USER()", None)):
        bill = lab.warehouse.freeze_bill(spec("r1", "texts", where=where))
        assert bill is not None and bill.kept_minutes == (None if minutes is None else pytest.approx(minutes))


@pytest.fixture
def lab(bigquery: BigQueryServer, tmp_path: Path) -> PlanLab:
    return PlanLab(tmp_path / "home")


def sql(lab: PlanLab, statement: str) -> None:
    with open_client(lab.project) as client:
        config = gcloud.QueryJobConfig(default_dataset=f"{lab.project}.tables")
        client.query_and_wait(statement, job_config=config)


def test_a_run_takes_what_its_plan_has_frozen(lab: PlanLab) -> None:
    """The same rows in the same slices, and no statement; the second plan neither. The run's table is its own."""
    planned = lab.plan(spec("r1", "texts"))
    assert lab.names() == ["freeze", "check_frozen"]
    again = lab.plan(spec("r1", "texts"))
    run = lab.warehouse.freeze(spec("r1", "texts"))
    assert lab.names() == []
    assert (run.run_id, run.slices, run.version) == ("r1", planned.slices, planned.version)
    assert again.slices == run.slices
    rows = read_all(lab.warehouse, run)
    lab.warehouse.forget_drafts("texts")
    assert lab.tables() == {"batch_llm_work_r1"}
    fresh = lab.warehouse.freeze(spec("r2", "texts"))
    assert lab.names() == ["freeze", "check_frozen"]
    assert read_all(lab.warehouse, fresh) == rows
    assert read_all(on_another_machine(lab), run) == rows
    assert lab.warehouse.freeze(spec("r1", "texts")) == run


def other_specs() -> Iterator[FreezeSpec]:
    wanted = spec("r1", "texts")
    yield replace(wanted, where="year > 2003")
    yield replace(wanted, rows_per_slice=wanted.rows_per_slice + 1)
    yield replace(wanted, columns=wanted.columns[:-1])
    yield replace(wanted, key=("year",))


@pytest.mark.parametrize(("source", "where"), [("seen", None), ("texts", "text != SESSION_USER()")])
def test_what_another_account_may_see_otherwise_is_not_shared(lab: PlanLab, source: str, where: str | None) -> None:
    sql(lab, "CREATE VIEW tables.seen AS SELECT * FROM tables.texts")
    wanted = replace(spec("r1", source), where=where)
    lab.plan(wanted)
    lab.names()
    assert lab.warehouse.freeze(wanted).rows
    assert "freeze" in lab.names()
    assert not [name for name in lab.tables() if name.startswith("batch_llm_draft")]


@pytest.mark.parametrize("wanted", list(other_specs()), ids=["where", "slices", "columns", "key"])
def test_a_plan_of_something_else_is_not_used(lab: PlanLab, wanted: FreezeSpec) -> None:
    lab.plan(spec("r1", "texts"))
    lab.names()
    lab.warehouse.freeze(wanted)
    assert lab.names() == ["freeze", "check_frozen"]


def test_a_plan_of_an_older_version_is_not_used(lab: PlanLab) -> None:
    lab.plan(spec("r1", "texts"))
    lab.names()
    sql(lab, "DELETE FROM texts WHERE id = 'k00000'")
    assert lab.warehouse.freeze(spec("r1", "texts")).rows == ROWS - 1
    assert lab.names() == ["freeze", "check_frozen"]


@pytest.mark.parametrize(("where", "stays_s"), [(None, 23 * 60 * MINUTE), ("year > 1900", 13 * MINUTE)])
def test_a_plan_is_used_for_a_while(bigquery: BigQueryServer, lab: PlanLab, where: str | None, stays_s: float) -> None:
    """A day; a quarter of an hour with a filter, which may look at the clock. Then BigQuery drops it by itself."""
    wanted = replace(spec("r1", "texts"), where=where)
    lab.plan(wanted)
    bigquery.advance(stays_s)
    lab.warehouse.freeze(wanted)
    assert lab.names() == ["freeze", "check_frozen"]
    bigquery.advance(3 * MINUTE if where else 2 * 60 * MINUTE)
    lab.warehouse.freeze(replace(wanted, run_id="r2"))
    assert lab.names() == ["freeze", "check_frozen"]
    assert not [name for name in lab.tables() if "draft" in name]


def test_days_move_under_a_plan(bigquery: BigQueryServer, lab: PlanLab) -> None:
    """A filter with CURRENT_DATE() gives the rows of the day on which the run begins."""
    sql(lab, "CREATE TABLE days AS SELECT id, CURRENT_DATE() AS day FROM UNNEST(['a', 'b']) AS id")
    wanted = FreezeSpec("r1", "days", ("id",), ("id",), "day >= CURRENT_DATE()", 5)
    assert lab.plan(wanted).rows == 2
    bigquery.advance(DAY)
    assert lab.warehouse.freeze(wanted).rows == 0


def test_a_key_that_is_none_leaves_nothing_and_is_told_each_time(lab: PlanLab) -> None:
    lab.put("twice", pa.concat_tables([input_table(3), input_table(3)]))
    for _ in range(2):
        with pytest.raises(InputError, match="unique"):
            lab.warehouse.freeze_for_plan(spec("plan-1", "twice"))
    with pytest.raises(InputError, match="unique"):
        lab.warehouse.freeze(spec("r1", "twice"))
    assert lab.tables() == set()


def test_what_a_killed_plan_left_unchecked_no_run_takes(bigquery: BigQueryServer, lab: PlanLab) -> None:
    """Its draft stands, its check never ended: a run makes its own; the next plan checks it, and reads nothing."""
    bigquery.faults(Fault("jobs.insert:query", status=400, reason="invalid", calls=(3,)))  # after a dry run, the freeze
    with pytest.raises(Exception, match="check_frozen"):
        lab.warehouse.freeze_for_plan(spec("plan-1", "texts"))
    bigquery.faults()
    assert lab.names() == ["freeze"]
    lab.warehouse.freeze(spec("r1", "texts"))
    assert lab.names() == ["freeze", "check_frozen"]
    lab.plan(spec("r1", "texts"))
    assert lab.names() == ["check_frozen"]
    lab.warehouse.freeze(spec("r2", "texts"))
    assert lab.names() == []


def test_what_a_killed_plan_left_is_gone_after_a_day(bigquery: BigQueryServer, lab: PlanLab) -> None:
    lab.warehouse.freeze_for_plan(spec("plan-1", "texts"))
    assert len(lab.tables()) == 2
    bigquery.advance(DAY + MINUTE)
    assert lab.tables() == set()


def test_two_plans_at_once_read_the_input_once(bigquery: BigQueryServer, lab: PlanLab) -> None:
    bigquery.configure(job_s=0.5)
    found: list[FrozenInput] = []
    plans = [
        threading.Thread(target=lambda n=n: found.append(lab.warehouse.freeze_for_plan(spec(f"plan-{n}", "texts"))))
        for n in range(2)
    ]
    for plan in plans:
        plan.start()
    for plan in plans:
        plan.join()
    assert [frozen.rows for frozen in found] == [ROWS, ROWS]
    assert sum(cost.billed_bytes or 0 for cost in lab.ran if cost.name == "freeze") == 10 << 20


@pytest.mark.parametrize("operation", ["jobs.insert:copy", "tables.patch", "tables.insert"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_call_that_is_lost_on_the_way_changes_nothing(
    bigquery: BigQueryServer, lab: PlanLab, operation: str, when: str
) -> None:
    bigquery.faults(Fault(operation, kind="reset", when=when, calls=(1, 3)))
    lab.plan(spec("r1", "texts"))
    run = lab.warehouse.freeze(spec("r1", "texts"))
    assert len(read_all(lab.warehouse, run)) == ROWS
    assert lab.names() == ["freeze", "check_frozen"]


def test_a_draft_that_goes_while_it_is_copied_is_made_good(bigquery: BigQueryServer, lab: PlanLab) -> None:
    lab.plan(spec("r1", "texts"))
    lab.names()
    bigquery.faults(Fault("jobs.insert:copy", status=404, reason="notFound", calls=(1,)))
    assert len(read_all(lab.warehouse, lab.warehouse.freeze(spec("r1", "texts")))) == ROWS
    assert lab.names() == ["freeze", "check_frozen"]


def test_forgetting_takes_the_drafts_of_that_input_only(lab: PlanLab) -> None:
    lab.put("others", input_table(3))
    for source in ("texts", "others"):
        lab.plan(spec("r1", source))
    lab.warehouse.forget_drafts("texts")
    assert len(lab.tables()) == 1
    lab.names()
    lab.warehouse.freeze(spec("r1", "others"))
    assert lab.names() == []
    lab.warehouse.forget_drafts("not_there")
    lab.warehouse.forget_drafts("input.parquet")


def test_copying_is_no_statement(bigquery: BigQueryServer, lab: PlanLab) -> None:
    """One free copy per plan and per run; the jobs that bill are two in all."""
    lab.plan(spec("r1", "texts"))
    lab.warehouse.freeze(spec("r1", "texts"))
    calls = [call["operation"] for call in bigquery.log()]
    assert calls.count("jobs.insert:copy") == 2
    assert len(lab.names()) == 2
