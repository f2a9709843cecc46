"""What a user sees and clicks in the Dagster UI."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import yaml
from playwright.sync_api import Page, expect

from batch_llm.journal.base import RunState
from tests.integration.dagster_lab import SCHEMA, Account, CodeLocation
from tests.integration.dagster_server import LOCATION, DagsterServer

pytestmark = pytest.mark.timeout(600)

PATIENCE_S = 240.0
SLICES = "/assets/tone/enriched_slices"


def is_finished(location: CodeLocation, job: str) -> bool:
    record = location.store.runs.latest(job)
    return record is not None and record.state is RunState.FINISHED


def launch_dialog(page: Page, server: DagsterServer) -> None:
    page.goto(f"{server.url}{SLICES}?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("Partition selection")


def test_a_partition_is_materialized_by_clicking_and_shows_its_plots(
    server: DagsterServer, location: CodeLocation, account: Account, page: Page, picture: Callable[[str], None]
) -> None:
    """One slice, then the others by a backfill; the output table follows by itself."""
    # the sensor `mirror` shows a run that was planned elsewhere
    server.wait_for(lambda: server.materializations("tone", "input_slices") == 3, PATIENCE_S, "the planned slices")
    launch_dialog(page, server)
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Select a partition or create one").click()
    page.get_by_placeholder("Filter partitions").fill("-0000")
    page.get_by_text("Select all (1)").click()
    page.get_by_text("Partition selection").click()
    dialog.get_by_role("button", name="Launch 1 run").click()
    server.wait_for(lambda: server.materializations("tone", "enriched_slices") == 1, PATIENCE_S, "the first slice")
    assert account.stats()["accepted"] == 20

    launch_dialog(page, server)
    dialog.get_by_text("Missing", exact=True).click()
    dialog.get_by_role("button", name=re.compile("Launch")).click()
    server.wait_for(lambda: server.materializations("tone", "enriched_slices") == 3, PATIENCE_S, "the other slices")

    page.goto(f"{server.url}{SLICES}?view=partitions")
    expect(page.get_by_text("Materialized (3)")).to_be_visible()
    page.get_by_text("-0000").first.click()
    expect(page.get_by_text("rows_per_s")).to_be_visible()
    picture("partitions")

    page.goto(f"{server.url}{SLICES}")
    page.get_by_role("button", name="Plots").click()
    expect(page.get_by_text("cost_usd").first).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
    picture("plots")

    server.wait_for(lambda: is_finished(location, "tone"), PATIENCE_S, "the output table")
    server.wait_for(lambda: server.materializations("tone_out"), PATIENCE_S, "the output table in the catalog")
    assert len(location.rows("tone_out")) == 60
    page.goto(f"{server.url}/locations/{LOCATION}/asset-groups/tone")
    expect(page.get_by_text("3 / 3 Passed")).to_be_visible()
    picture("lineage")


def test_a_new_job_is_submitted_from_the_launchpad(
    server: DagsterServer, location: CodeLocation, page: Page, picture: Callable[[str], None]
) -> None:
    """A researcher pastes a job file, launches, and has the table: no shell."""
    job = {
        "name": "fresh",
        "input": {"table": "jobs/input.parquet", "key": ["id"]},
        "prompt": {"user": "Is this calm or tense? {{ text }}"},
        "model": "simulator/small",
        "output": {"table": "fresh_out", "schema": SCHEMA},
        "budget_usd": 1,
    }
    page.goto(f"{server.url}/locations/{LOCATION}/jobs/submit_job/playground")
    expect(page.get_by_text("The run may not cost more")).to_be_visible()  # the fields explain themselves
    page.locator(".CodeMirror").first.click()
    page.keyboard.press("Control+A")
    page.evaluate(
        "text => document.querySelector('.CodeMirror').CodeMirror.setValue(text)", yaml.safe_dump(job, sort_keys=False)
    )
    launch = page.get_by_role("button", name="Launch Run")
    expect(launch).to_be_enabled()
    picture("launchpad")
    launch.click()
    server.wait_for(lambda: is_finished(location, "fresh"), PATIENCE_S, "the submitted job")
    assert len(location.rows("fresh_out")) == 60
    server.wait_for(lambda: server.materializations("fresh_out"), PATIENCE_S, "its table in the catalog")
    page.goto(f"{server.url}/assets/fresh_out?view=events")
    expect(page.get_by_text("cost_usd").first).to_be_visible()
