"""`submit_job`: the Launchpad in place of a job file."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
import yaml

from assets.partitions import partition_keys
from assets.submit_job import SUBMIT_JOB
from tests.integration.dagster_lab import Account, CodeLocation


def pasted(location: CodeLocation, **changes: Any) -> dict[str, Any]:
    """A job file's text as the Launchpad would parse it, with paths from the root."""
    job = yaml.safe_load(location.job("fresh", **changes).read_text())
    (location.jobs / "fresh.yaml").unlink()
    return {**job, "input": {"table": "jobs/input.parquet", "key": ["id"]}}


def test_a_pasted_job_file_runs_whole_and_shows_in_the_catalog(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    result = location.execute(instance, SUBMIT_JOB, config=pasted(location, budget_usd=1))
    assert result.success
    assert len(location.rows("fresh_out")) == 25
    keys = partition_keys(location.record("fresh"))
    assert instance.get_dynamic_partitions("submitted_slices") == keys
    for name in ("input_slices", "enriched_slices"):
        assert instance.get_materialized_partitions(dg.AssetKey(["submitted", name])) == set(keys)
    assert instance.get_latest_materialization_event(dg.AssetKey("fresh_out")) is not None
    tags = instance.get_runs()[0].tags
    assert (tags["batch_llm/job"], tags["batch_llm/user"]) == ("fresh", "alice")


def test_submitting_again_asks_nothing(location: CodeLocation, instance: dg.DagsterInstance, account: Account) -> None:
    config = pasted(location)
    location.execute(instance, SUBMIT_JOB, config=config)
    assert location.execute(instance, SUBMIT_JOB, config=config).success
    assert account.stats()["accepted"] == 25


def test_a_submitted_slice_can_be_rerun_by_itself(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    location.execute(instance, SUBMIT_JOB, config=pasted(location))
    key = partition_keys(location.record("fresh"))[0]
    assert location.execute(instance, "submitted_slices", partition_key=key).success
    assert account.stats()["accepted"] == 25


def test_failed_rows_of_a_rerun_submitted_slice_reach_the_output(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account
) -> None:
    account.configure(faults={"server_error": 0.5})
    job = pasted(location, retries={"attempts": 1, "re_asks": 0}, slices={"rows": 25})
    location.execute(instance, SUBMIT_JOB, config=job)
    assert {row["llm_status"] for row in location.rows("fresh_out")} == {"ok", "failed"}
    account.configure(faults={})
    (key,) = partition_keys(location.record("fresh"))
    assert location.execute(instance, "submitted_slices", partition_key=key).success
    assert {row["llm_status"] for row in location.rows("fresh_out")} == {"ok"}


def test_a_wrong_value_is_refused_with_the_sentence_of_the_command_line(
    location: CodeLocation, instance: dg.DagsterInstance
) -> None:
    result = location.execute(instance, SUBMIT_JOB, config=pasted(location, prompt={"user": "{{ tetx }}"}))
    assert not result.success
    (event,) = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    assert "tetx" in str(event.step_failure_data.user_failure_data)


def test_an_unknown_key_is_refused_before_anything_runs(location: CodeLocation, instance: dg.DagsterInstance) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="modle"):
        location.execute(instance, SUBMIT_JOB, config={**pasted(location), "modle": "x"})
