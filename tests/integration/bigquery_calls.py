"""Every call of one whole job to BigQuery, with why it is made: docs/reference/bigquery-calls.md.

Belongs here: running the job, naming its calls, the page. Not here: comparing it with the docs
(test_bigquery_calls_page.py). The page is printed by

    .venv/bin/python -m tests.integration.bigquery_calls
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud import bigquery

from tests.bigquery_server.process import BigQueryServer, bigquery_server
from tests.integration.bigquery_run_lab import BigQueryRunLab

__all__ = ["Call", "calls_of_one_job", "page"]

ROWS = 120
DRY_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")  # the client's own: such a job leaves nothing behind

HEAD = """\
# Every call of one job to BigQuery

What google-cloud-bigquery sent for `batch-llm run` over a table of 120 rows in two slices into an output that did not
exist yet, against the tests' [fake](bigquery-fake.md); made by `tests/integration/bigquery_calls.py`, compared by a
test. `<run>` stands for the run's id. The same call in a row (waiting for a job, more pages) is one line. Two slices
overlap, so lines of theirs may change places. Only `jobs.insert:query` can be billed, and no dry run is; all else is
free.

| | call | on | why |
|---|---|---|---|
"""

WHY = {
    ("tables.get", "texts"): "the input's columns, version and moment: what the freeze is pinned to",
    ("tables.get", "out"): "whether the output is there, and fits",
    ("datasets.get", ""): "an output is made in a dataset that exists",
    ("jobs.insert:query", "a dry run"): "may this account see the table as of a moment (not with row access policies)",
    ("tables.get", "batch_llm_draft_<input>"): "whether a plan has frozen the same already, to be copied for nothing",
    ("tables.get", "batch_llm_work_<run>"): "whether this run is frozen already; how many rows each slice has",
    ("tabledata.list", "batch_llm_work_<run>$n"): "one slice, fetched once to this machine",
    ("tables.get", "batch_llm_out_<run>"): "whether slices of the run are published",
    ("tables.get", "batch_llm_prior_<run>__<place>"): "whether earlier answers were looked up already",
    ("tables.insert", ""): "the run's own table (a partition per slice), then the output, clustered by the key",
    ("tables.patch", "batch_llm_out_<run>"): "which view shows it, with its etag",
    ("tables.get", "out__live"): "whether the view of what is done is there",
    ("jobs.get", "freeze"): "was this job sent before, by a process that died? No (404)",
    ("jobs.get", "publish"): "the same for the slice's load",
    ("jobs.get", "live"): "the same for the view",
    ("jobs.get", "promote"): "the same for the promotion",
    ("jobs.insert:query", "freeze"): "the one scan of the input: rows numbered in their slices, from one moment",
    ("jobs.insert:query", "check_frozen"): "is the key unique and never null, are the rows numbered without a gap",
    ("jobs.getQueryResults", "check_frozen"): "its one row",
    ("jobs.insert:load", "publish"): "a slice's rows as one Parquet file, in the place of its partition",
    ("jobs.insert:query", "live_view"): "the view `out__live`",
    ("jobs.insert:query", "published"): "the slice's counters, from the stored rows",
    ("jobs.getQueryResults", "published"): "the counters",
    ("jobs.insert:query", "promote_upsert"): "one MERGE brings the run's rows into the output",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What was called, on what."""

    operation: str  # of the REST API; of inserted jobs with their kind
    subject: str  # a table, a job's or a statement's name

    @property
    def line(self) -> str:
        """Its line of the page, without a number."""
        why = WHY[self.operation, self.subject]
        return f"| `{self.operation}` | {f'`{self.subject}`' if self.subject else ''} | {why} |"


def calls_of_one_job(server: BigQueryServer, folder: Path) -> list[Call]:
    """Run the job on an empty server that the environment leads to; what it called, in order."""
    folder.mkdir()
    lab = BigQueryRunLab(folder)
    lab.dataset(ROWS)
    before = len(server.log())
    run_id = asyncio.run(_run(lab))
    log = server.log()[before:]
    with server.client() as client:
        called = [Call(entry["operation"], _subject(entry, run_id, client)) for entry in log]
    return [call for place, call in enumerate(called) if not place or call != called[place - 1]]


async def _run(lab: BigQueryRunLab) -> str:
    async with lab.simulator():
        return (await lab.run()).run_id


def _subject(entry: dict[str, Any], run_id: str, client: bigquery.Client) -> str:
    job_id = entry["job_id"]
    if job_id is not None and DRY_RUN_ID.fullmatch(job_id):
        return "a dry run"
    if job_id is not None and entry["operation"] == "jobs.get":
        return job_id.partition(f"{run_id}-")[2].rstrip("-0123456789")
    if job_id is not None:
        labels: dict[str, str] = client.get_job(job_id).labels
        return labels["batch_llm_operation"]
    _, _, name = entry["path"].partition("/datasets/")
    last = re.sub(r"/data$", "", name).rpartition("/")[2]
    if last == "tables":
        return ""
    if last.startswith("batch_llm_draft_"):
        return "batch_llm_draft_<input>"
    name = re.sub(r"__[0-9a-f]{7,}$", "__<place>", last.replace(run_id, "<run>"))
    return re.sub(r"\$\d+$", "$n", name)


def page(calls: Iterable[Call]) -> str:
    """The whole page."""
    return HEAD + "".join(f"| {number} {call.line}\n" for number, call in enumerate(calls, 1))


def main() -> None:
    """Print the page."""
    with tempfile.TemporaryDirectory() as folder, bigquery_server(Path(folder) / "server") as server:
        os.environ["BIGQUERY_EMULATOR_HOST"] = server.url
        print(page(calls_of_one_job(server, Path(folder) / "lab")), end="")


if __name__ == "__main__":
    main()
