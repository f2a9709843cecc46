"""A whole job with BigQuery as the warehouse: each key exactly once, whatever is killed and whatever calls fail.

Belongs here: the command, kills, files. Not here: single calls (tests/contract/test_warehouse_bigquery_calls.py).
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batch_llm import wiring
from batch_llm.engine.events import NotPublished, Progress
from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery import open_client
from tests.bigquery_server.process import BigQueryServer, Fault, bigquery_server
from tests.integration.bigquery_run_lab import PROJECT, BigQueryRunLab
from tests.integration.cli_lab import CommandLine
from tests.integration.engine_lab import killed_after
from tests.search import FACTOR

ROWS = 200
DRIVER = """
import asyncio, sys
from pathlib import Path
from tests.integration.bigquery_run_lab import BigQueryRunLab
lab = BigQueryRunLab(Path(sys.argv[1]))
print(asyncio.run(lab.run()).ok)
"""
SEEDS = range(1, 2 if FACTOR == 1 else 21)  # three kills; `make search` kills twenty runs so
# one in ten calls fails: half of them before their work, half after it (the answer is lost)
FAILING = (
    Fault("*", share=0.03, seed=1, reason="backendError"),
    Fault("*", share=0.02, seed=2, kind="body", status=502),
    Fault("*", share=0.03, seed=3, kind="reset", when="after"),
    Fault("*", share=0.02, seed=4, when="after", reason="rateLimitExceeded", status=403),
    Fault("jobs.insert:*", share=0.05, seed=5, kind="job", reason="jobBackendError"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server


@pytest.fixture
def server(shared: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> BigQueryServer:
    shared.reset()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", shared.url)
    return shared


@pytest.fixture
def lab(server: BigQueryServer, tmp_path: Path) -> BigQueryRunLab:
    return BigQueryRunLab(tmp_path)


async def test_the_command_runs_a_job_in_bigquery(lab: BigQueryRunLab) -> None:
    """By the environment alone; the second time nothing is asked, a changed row the third time."""
    lab.dataset(ROWS)
    where = {"BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables", "BATCH_LLM_BIGQUERY_LOCATION": "US"}
    cli = CommandLine(lab, where)
    async with lab.simulator() as simulator:
        first = await cli.run("run", cli.job_file(), "--yes", "--json")
        assert first.code == 0, first.err
        assert (first.json["ok"], first.json["pending"], first.json["requests"]) == (ROWS, 0, ROWS)
        again = await cli.run("run", "lab.yaml", "--yes", "--json")
        assert (again.code, again.json["requests"]) == (0, 0), again.err
        with open_client(PROJECT) as client:
            client.query_and_wait("UPDATE tables.texts SET text = 'another' WHERE id = 7")
        third = await cli.run("run", "lab.yaml", "--yes", "--json")
        assert (third.code, third.json["ok"], third.json["requests"]) == (0, ROWS, 1), third.err
        assert simulator.stats()["answered"] == ROWS + 1
    for command in (("show", "lab.yaml", "7"), ("doctor",)):
        said = await cli.run(*command, "--json")
        assert said.code == 0, (command, said.err)
    rows = lab.rows()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert all(row["extra"] == row["id"] % 7 for row in rows)


@pytest.mark.parametrize("seed", SEEDS)
async def test_killed_runs_go_on_while_bigquery_fails(
    lab: BigQueryRunLab, server: BigQueryServer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills at random moments, one in ten calls failing: each key once, nothing paid twice but what was in flight.

    With even seeds rows come by the Storage Read API.
    """
    if seed % 2 == 0:
        monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", server.grpc_address)
    lab.dataset(ROWS)
    draw = random.Random(seed)
    server.faults(*(replace(fault, seed=fault.seed + 10 * seed) for fault in FAILING))
    async with lab.simulator(latency_median_s=0.05, seed=seed) as simulator:
        at_kills = answers = 0
        for _ in range(3):
            answers += draw.randrange(10, 60)
            at_kills += await killed_after(lab, simulator, answers, DRIVER)
        summary = await lab.run()
        stats = simulator.stats()
    assert (summary.rows, summary.ok, summary.pending) == (ROWS, ROWS, 0)
    assert any(call["faults"] for call in server.log())
    assert any(call["operation"] == "storage.readRows" for call in server.log()) is (seed % 2 == 0)
    server.faults()
    rows = lab.rows()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert stats["duplicates"]["prompts"] == ROWS
    assert 0 <= stats["answered"] - ROWS <= at_kills


LOADS_REFUSED = Fault("jobs.insert:load", reason="quotaExceeded", status=403)


async def test_a_quota_that_is_used_up_stops_no_asking(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """All is asked, though no slice can be published; then the run says why it stops. The same again costs nothing."""
    lab.dataset(ROWS)
    job = lab.job(slices={"rows": 10})
    server.faults(LOADS_REFUSED)
    async with lab.simulator() as simulator:
        with pytest.raises(WarehouseError, match=r"quotaExceeded.*run the same command again"):
            await lab.run(job)
        assert simulator.stats()["answered"] == ROWS
        assert [event for event in lab.events if isinstance(event, Progress)][-1].ok == ROWS
        (told,) = [event for event in lab.events if isinstance(event, NotPublished)]
        assert "quotaExceeded" in told.reason
        server.faults()
        summary = await lab.run(job)
        assert simulator.stats()["answered"] == ROWS
    assert (summary.ok, summary.requests, len(lab.rows())) == (ROWS, 0, ROWS)


async def test_what_could_not_be_published_is_at_the_end(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """A quota of some minutes."""
    lab.dataset(ROWS)
    server.faults(replace(LOADS_REFUSED, calls=tuple(range(1, 13))))
    async with lab.simulator():
        summary = await lab.run(lab.job(slices={"rows": 10}))
    assert (summary.ok, summary.pending, len(lab.rows())) == (ROWS, 0, ROWS)


async def test_what_a_file_holds_can_be_asked_into_bigquery(lab: BigQueryRunLab, tmp_path: Path) -> None:
    """And out of it into a file again."""
    lab.table(70)
    lab.dataset(1)
    out = str(tmp_path / "out.parquet")
    async with lab.simulator():
        summary = await lab.run(lab.job(input={"table": "input.parquet", "key": ["id"]}))
        assert (summary.ok, len(lab.rows())) == (70, 70)
        to_file = lab.job(name="to_file", input={"table": "out", "key": ["id"]}, output={"table": out},
                          prompt={"user": "Again: {{ tone }}"})  # fmt: skip
        summary = await lab.run(to_file)
    assert (summary.ok, [row["id"] for row in lab.rows(out)]) == (70, list(range(70)))


async def test_a_plan_says_what_the_warehouse_bills(lab: BigQueryRunLab) -> None:
    """The key and the text of 200 rows, by a dry run."""
    lab.dataset(ROWS)
    where = {"BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables", "BATCH_LLM_BIGQUERY_LOCATION": "US"}
    cli = CommandLine(lab, where)
    async with lab.simulator():
        job = cli.job_file(input={"table": "texts", "key": ["id"], "where": "id < 150"})
        plan = await cli.run("plan", job, "--json")
        assert plan.code == 0, plan.err
        assert plan.json["rows"] == 150
        assert ROWS * 8 < plan.json["freeze_bytes"] < ROWS * 40
        words = await cli.run("plan", job)
    assert "MB of the input are read to freeze it" in words.out
    assert "Nothing was spent" not in words.out


async def test_a_window_of_days_moves_with_the_table(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """Each day reads three days; of them only the rows that are new are asked."""
    day = "SELECT id, CONCAT('text ', CAST(id AS STRING)) AS text, 0 AS extra, CURRENT_DATE()"
    lab.dataset(1)

    def load(first: int) -> None:
        rows = f"{day} AS day FROM UNNEST(GENERATE_ARRAY({first}, {first + 9})) AS id"
        make = "INSERT INTO tables.days (id, text, extra, day)" if first else "CREATE TABLE tables.days AS"
        with open_client(PROJECT) as client:
            client.query_and_wait(f"{make} {rows}")

    window = "day >= DATE_SUB(CURRENT_DATE(), INTERVAL 2 DAY)"
    job = lab.job(input={"table": "days", "key": ["id"], "where": window})
    seen = []
    async with lab.simulator():
        for number in range(5):
            load(10 * number)
            summary = await lab.run(job)
            seen.append((summary.rows, summary.requests))
            server.advance(24 * 3_600)
    assert seen == [(10, 10), (20, 10), (30, 10), (30, 10), (30, 10)]
    assert [row["id"] for row in lab.rows()] == list(range(50))


def test_the_dagster_resource_gives_its_credentials(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """The server takes no call without a token of that account."""
    from resources.bigquery import BigQueryConnection
    from resources.settings import SettingsResource
    from resources.warehouse import WarehouseResource

    lab.dataset(3)
    server.configure(require_token=True)
    key = base64.b64encode(server.service_account.read_bytes()).decode()
    connection = BigQueryConnection(project=PROJECT, gcp_credentials=key)
    settings = SettingsResource(
        root=str(lab.folder), home="home", bigquery_dataset=f"{PROJECT}.tables", bigquery=connection
    )
    resource = WarehouseResource(settings=settings)
    assert resource.create().count("texts", None) == 3
    assert "is reachable" in resource.check_bigquery()
    with pytest.raises(WarehouseError):
        wiring.open_store(lab.settings).warehouse.count("texts", None)
