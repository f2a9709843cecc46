"""The assets of a declared job, materialized for real: real Dagster instance, real engine, simulated provider."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import dagster as dg

from assets.partitions import partition_keys
from batch_llm.limiter.control import change_caps
from batch_llm.limiter.ledger import DAY_CAP
from tests.integration.dagster_lab import Account, CodeLocation


def plan(location: CodeLocation, instance: dg.DagsterInstance, job: str = "tone") -> list[str]:
    """Start a run; its partitions."""
    assert location.execute(instance, f"{job}_run").success
    return partition_keys(location.record(job))


def enrich(location: CodeLocation, instance: dg.DagsterInstance, key: str) -> dg.ExecuteInProcessResult:
    return location.execute(instance, "tone_slices", partition_key=key)


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    data = event.step_failure_data
    assert data.user_failure_data is not None, data.error
    return str(data.user_failure_data.description)


def test_a_run_is_planned_enriched_slice_by_slice_and_promoted(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job()
    keys = plan(location, instance)
    assert instance.get_dynamic_partitions("tone_slices") == keys
    assert len(keys) == 3
    assert location.record().requested
    assert account.stats()["accepted"] == 0, "planning spends nothing"
    for key in keys:
        assert enrich(location, instance, key).success
    assert location.execute(instance, "tone_output").success
    rows = location.rows("tone_out")
    assert [row["id"] for row in rows] == list(range(25))
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert account.stats()["accepted"] == 25


def test_a_slice_shows_numbers_that_plot_and_no_text(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    location.job()
    key = plan(location, instance)[0]
    result = enrich(location, instance, key)
    (event,) = result.asset_materializations_for_node("tone__enriched_slices")
    shown = {name: value.value for name, value in event.metadata.items()}
    assert shown["rows"] == shown["dagster/row_count"] == 10
    assert shown["failed"] == 0
    for name in ("cost_usd", "rows_per_s", "p50_s", "p99_s"):
        assert isinstance(shown[name], float), name
    assert shown["input_tokens"] > 0
    assert "Grade" not in str(event.metadata)
    assert "text input" not in str(event.metadata)
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "row_count_matches": True,
        "error_rate": True,
        "parse_rate": True,
    }


def test_samples_rows_shows_the_answers(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    location.job(samples="rows")
    result = enrich(location, instance, plan(location, instance)[0])
    (event,) = result.asset_materializations_for_node("tone__enriched_slices")
    assert {"tone", "score"} <= set(event.metadata["sample"].value.records[0].data)


def test_a_slice_with_failed_rows_materializes_with_a_warning(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    """And rerunning the partition asks failed rows once more, ok rows never."""
    location.job(retries={"attempts": 1, "re_asks": 0})
    key = plan(location, instance)[0]
    account.configure(faults={"server_error": 0.5})
    result = enrich(location, instance, key)
    assert result.success
    rate = next(check for check in result.get_asset_check_evaluations() if check.check_name == "error_rate")
    assert (rate.passed, rate.severity) == (False, dg.AssetCheckSeverity.WARN)
    failed = int(rate.metadata["failed"].value)
    assert 0 < failed < 10
    assert rate.metadata["slice"].value == key

    account.configure(faults={})
    asked_before = account.stats()["answered"]
    again = enrich(location, instance, key)
    assert all(check.passed for check in again.get_asset_check_evaluations())
    assert account.stats()["answered"] - asked_before == failed
    assert account.stats()["duplicates"]["answered_twice"] == 0


def test_rerunning_a_good_partition_asks_nothing(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job()
    key = plan(location, instance)[0]
    enrich(location, instance, key)
    assert enrich(location, instance, key).success
    assert account.stats()["accepted"] == 10


def test_a_partition_asks_what_its_run_froze_whatever_the_job_file_says_now(
    location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    location.job()
    key = plan(location, instance)[0]
    location.job(prompt={"user": "Something else: {{ no_such_column }}"})
    assert enrich(location, instance, key).success


def test_the_output_waits_for_all_slices_and_says_so(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    location.job()
    enrich(location, instance, plan(location, instance)[0])
    result = location.execute(instance, "tone_output")
    assert not result.success
    assert "tone_run" in failure_text(result)


def test_a_check_that_blocks_leaves_the_output_alone(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job(
        retries={"attempts": 1, "re_asks": 0},
        checks={"max_failed_share": 0.02, "block_promotion": True},
        slices={"rows": 25},
    )
    account.configure(faults={"server_error": 0.5})
    (key,) = plan(location, instance)
    enrich(location, instance, key)
    result = location.execute(instance, "tone_output")
    assert not result.success
    assert "checks.max_failed_share" in failure_text(result)


def test_planning_again_goes_on_with_the_unfinished_run_and_ends_when_nothing_changed(
    location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    location.job()
    keys = plan(location, instance)
    assert plan(location, instance) == keys
    for key in keys:
        enrich(location, instance, key)
    location.execute(instance, "tone_output")
    assert plan(location, instance) == keys
    assert instance.get_dynamic_partitions("tone_slices") == keys


def test_a_refused_job_fails_with_the_sentence_of_the_command_line(
    location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    location.job(prompt={"user": "{{ tetx }}"})
    result = location.execute(instance, "tone_run")
    assert not result.success
    assert "tetx" in failure_text(result)


def test_a_budget_that_pays_for_no_row_fails_the_planning(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.job(budget_usd=0.00001)
    result = location.execute(instance, "tone_run")
    assert not result.success and instance.get_dynamic_partitions("tone_slices") == []
    told = failure_text(result)
    assert "budget_usd 0.00001 pays for no row" in told and "command" not in told
    assert account.stats()["accepted"] == 0


def test_a_cap_that_an_unknown_price_cannot_keep_is_refused_at_every_door(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    """A slice as well, where the cap is set after the planning."""
    location.job()
    location.limits({"requests_per_minute": 600_000}, prices=None)
    (key, *_) = plan(location, instance)
    asyncio.run(change_caps(location.settings, {DAY_CAP: Decimal(50)}))
    for result in (enrich(location, instance, key), location.execute(instance, "tone_run")):
        assert not result.success
        told = failure_text(result)
        assert "price of simulator/small is unknown, so no cap can be kept on what everybody together may spend" in told
        assert "batch-llm limits budget --per-day none" in told
    assert account.stats()["accepted"] == 0


def test_a_forgotten_run_is_refused_clearly(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    location.job()
    key = plan(location, instance)[0]
    location.store.runs.delete(location.record().run_id)
    result = enrich(location, instance, key)
    assert not result.success
    assert "no run" in failure_text(result)


def test_a_broken_job_file_is_shown_and_hides_no_other(location: CodeLocation) -> None:
    location.job()
    (location.jobs / "broken.yaml").write_text("name: broken\nmodle: x\n")
    location.job("twin", output={"table": "tone_out"})
    defs = location.definitions()
    repository = defs.get_repository_def()
    names = {job.name for job in repository.get_all_jobs()}
    assert "tone_run" in names
    assert "broken_run" not in names
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert "modle" in str(specs["broken_job_files/jobs_broken"].description)
    assert "already written by the job 'tone'" in str(specs["broken_job_files/jobs_twin"].description)
