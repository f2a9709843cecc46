"""What `forget` takes for an age, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batch_llm.cli.forget import days_of
from batch_llm.cli.jobs import open_home
from batch_llm.errors import ConfigurationError
from batch_llm.journal.base import RunRecord, RunState
from tests.unit.journal.unremovable import unremovable

Cli = Callable[..., Any]
NOW = datetime.now(UTC)


def record(run_id: str, job: str, age_days: float) -> RunRecord:
    created_at = NOW - timedelta(days=age_days)
    made = RunRecord(
        run_id, {"name": job}, "", "", "", "", "", ("id",), ("id",), (1,), (), RunState.FINISHED, created_at
    )
    return replace(made, finished_at=created_at)


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("12h", 0.5), ("2w", 14), ("7", 7), ("0d", 0)])
def test_an_age_is_a_number_with_a_unit(text: str, days: float) -> None:
    assert days_of(text) == days


@pytest.mark.parametrize("text", ["", "d", "soon", "-1d", "infd", "nan", "30m"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a time such as 30d, 4w or 12h"):
        days_of(text)


def test_a_job_or_an_age_must_be_named(cli: Cli) -> None:
    said = cli("forget", "--yes")
    assert said.code == 2 and "--older-than 30d" in said.err


def test_old_runs_of_all_jobs_or_of_one_are_erased(cli: Cli, home: object) -> None:
    """It asks first; without a terminal it wants --yes."""
    runs = open_home().runs
    for run_id, job, age_days in (("a-1", "a", 40), ("a-2", "a", 3), ("b-1", "b", 40)):
        runs.save(record(run_id, job, age_days))
    said = cli("forget", "--older-than", "30d")
    assert said.code == 2 and "2 run(s) of all jobs" in said.err
    one = json.loads(cli("forget", "a", "--older-than", "30d", "--yes", "--json").out)
    assert one == {"job": "a", "older_than_days": 30.0, "runs": ["a-1"]}
    assert json.loads(cli("forget", "--older-than", "1w", "--yes", "--json").out)["runs"] == ["b-1"]
    assert [each.run_id for each in runs.all()] == ["a-2"]
    assert cli("forget", "--older-than", "30d").code == 0  # nothing to ask about


@pytest.mark.parametrize("arguments", [("a",), ("--older-than", "30d"), ("a", "--older-than", "30d")])
@pytest.mark.parametrize("name", ["0000.jsonl", "0000.parquet"])
def test_what_cannot_be_erased_is_told_with_its_place(
    cli: Cli, home: object, arguments: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never as done; and the same command erases it once it can."""
    store = open_home()
    store.runs.save(record("a-1", "a", 40))
    store.runs.journal("a-1", 0).close()
    frozen = store.settings.runs_dir / "a-1" / "frozen"
    frozen.mkdir()
    (frozen / "0000.parquet").write_bytes(b"rows")
    with monkeypatch.context() as patched:
        unremovable(patched, name)
        said = cli("forget", *arguments, "--yes")
    folder = store.settings.runs_dir / "a-1" / ("journal" if name == "0000.jsonl" else "frozen")
    assert said.code == 2 and f"{folder} (with all that is in it) cannot be erased" in said.err
    assert "internal error" not in said.err and "1 run(s) erased" not in said.out
    assert cli("forget", *arguments, "--yes").code == 0
    assert not folder.parent.exists()
