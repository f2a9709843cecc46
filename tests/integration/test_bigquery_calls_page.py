"""The page of calls says what the client sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bigquery_server.process import bigquery_server
from tests.integration.bigquery_calls import HEAD, calls_of_one_job

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "bigquery-calls.md"


def test_the_page_in_the_docs_is_what_a_job_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bigquery_server(tmp_path / "server") as server:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url)
        called = {call.line for call in calls_of_one_job(server, tmp_path / "lab")}
    written = PAGE.read_text(encoding="utf-8")
    anew = ".venv/bin/python -m tests.integration.bigquery_calls > docs/reference/bigquery-calls.md"
    assert written.startswith(HEAD), f"write it anew: {anew}"
    lines = {f"|{line.split('|', 2)[2]}" for line in written.removeprefix(HEAD).splitlines()}
    assert lines == called, f"write it anew: {anew}"
