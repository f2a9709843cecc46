"""A whole job with BigQuery as the warehouse: each key exactly once, whatever is killed and whatever calls fail.

Belongs here: the command, kills, files. Not here: single calls (tests/contract/test_warehouse_bigquery_calls.py).
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

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


async def test_a_slice_by_itself_looks_at_no_other(lab: BigQueryRunLab) -> None:
    """As each process of Dagster has one: the whole run's counters would be billed by each of them."""
    lab.dataset(ROWS)
    async with lab.simulator():
        async with lab.engine() as engine:
            record = (await engine.start()).record
        with open_client(PROJECT) as client:
            before = {job.job_id for job in client.list_jobs()}
        for number, rows in enumerate(record.slice_rows):
            async with lab.engine() as engine:
                assert (await engine.run_slice(record, number)).ok == rows
            last = [event for event in lab.events if isinstance(event, Progress)][-1]
            assert (last.rows, last.ok, last.pending) == (rows, rows, 0)
    with open_client(PROJECT) as client:
        asked = [job for job in client.list_jobs() if job.job_id not in before and job.job_type == "query"]
    counted = [job.query for job in asked if job.labels["batch_llm_operation"] == "published"]
    assert counted
    assert all("@number" in query for query in counted)
    assert [job.labels["batch_llm_operation"] for job in asked].count("live_view") == 1


LOADS_REFUSED = Fault("jobs.insert:load", reason="quotaExceeded", status=403)


async def test_a_quota_that_is_used_up_stops_no_asking(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """All is asked, though no slice can be published; then the run says why it stops. The same again costs nothing."""
    lab.dataset(ROWS)
    job = lab.job(slices={"rows": 10})
    server.faults(LOADS_REFUSED)
    async with lab.simulator() as simulator:
        with pytest.raises(WarehouseError, match=r"quotaExceeded.*run the job again"):
            await lab.run(job)
        assert simulator.stats()["answered"] == ROWS
        assert [event for event in lab.events if isinstance(event, Progress)][-1].ok == ROWS
        (told,) = [event for event in lab.events if isinstance(event, NotPublished)]
        assert "quotaExceeded" in told.reason
        server.faults()
        summary = await lab.run(job)
        assert simulator.stats()["answered"] == ROWS
    assert (summary.ok, summary.requests, len(lab.rows())) == (ROWS, 0, ROWS)


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        ({"missing_permissions": ["bigquery.tables.getData"]}, {}, "accessDenied"),
        ({"require_token": True}, {}, "no usable Google credentials"),
        ({}, {"BATCH_LLM_BIGQUERY_LOCATION": "EU"}, "BATCH_LLM_BIGQUERY_LOCATION"),
        ({}, {"BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED": "1000"}, "BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED"),
    ],
)
async def test_a_refusal_before_anything_was_asked_is_a_matter_of_configuration(
    lab: BigQueryRunLab, server: BigQueryServer, settings: dict[str, Any], where: dict[str, str], words: str
) -> None:
    lab.dataset(5)
    server.configure(**settings)
    cli = CommandLine(lab, {"BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables"} | where)
    async with lab.simulator() as simulator:
        said = await cli.run("run", cli.job_file(), "--yes")
        assert (said.code, simulator.stats()["answered"]) == (2, 0), said.err
    assert words in said.err


async def test_a_refusal_when_answers_are_paid_for_is_a_run_that_goes_on(
    lab: BigQueryRunLab, server: BigQueryServer
) -> None:
    """Also of the next command, which asks nothing and cannot publish either; and a statement that needs waiting."""
    lab.dataset(5)
    cli = CommandLine(lab, {"BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables"})
    async with lab.simulator() as simulator:
        server.faults(Fault("jobs.insert:query", reason="quotaExceeded", status=403))
        assert (await cli.run("run", cli.job_file(), "--yes")).code == 3
        server.faults(Fault("jobs.insert:load", reason="accessDenied", status=403))
        for _ in range(2):
            said = await cli.run("run", "lab.yaml", "--yes")
            assert (said.code, simulator.stats()["answered"]) == (3, 5), said.err
            assert "accessDenied" in said.err
        server.faults()
        said = await cli.run("run", "lab.yaml", "--yes")
        assert (said.code, simulator.stats()["answered"]) == (0, 5), said.err


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


async def test_a_plan_and_its_run_are_billed_once(lab: BigQueryRunLab) -> None:
    """What the plan says is what the run does: the key and the text of 200 rows are read by the plan alone."""
    lab.dataset(ROWS)
    where = {"BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables", "BATCH_LLM_BIGQUERY_LOCATION": "US"}
    cli = CommandLine(lab, where)
    async with lab.simulator():
        job = cli.job_file()
        plan = await cli.run("plan", job, "--json")
        assert plan.code == 0, plan.err
        assert (plan.json["rows"], plan.json["slices"]) == (ROWS, 4)
        assert ROWS * 8 < plan.json["freeze_bytes"] < ROWS * 40
        assert (plan.json["billed"]["statements"], plan.json["billed"]["cost_usd"]) == (2, None)
        assert [(each["name"], each["times"], each["billed_bytes"]) for each in plan.json["warehouse"]] == [
            ("published", 5, None),
            ("promote", 1, None),
        ]
        words = await cli.run("plan", job)
        assert "of the input (by a dry run), once for plan and run" in words.out
        assert "Nothing was spent" in words.out
        ran = await cli.run("run", job, "--yes", "--json")
    assert (ran.code, ran.json["ok"]) == (0, ROWS), ran.err
    kept = wiring.open_store(lab.settings).runs.statements(ran.json["run_id"])
    assert {cost.name for cost in kept} == {"published", "promote_upsert"}
    assert not list(lab.settings.runs_dir.glob("plan-*"))
    assert (await cli.run("forget", "lab.yaml", "--yes")).code == 0
    with open_client(PROJECT) as client:
        assert {entry.table_id for entry in client.list_tables(f"{PROJECT}.tables")} == {"texts", "out"}


async def test_a_plan_says_what_earlier_answers_will_cost(lab: BigQueryRunLab) -> None:
    """By a dry run before; the same is billed in the end."""
    lab.dataset(ROWS)
    job = lab.job()
    async with lab.simulator():
        await lab.run(job)
        with open_client(PROJECT) as client:
            client.query_and_wait("UPDATE tables.texts SET text = 'another' WHERE id = 7")
        plan = wiring.planner(lab.settings, job).plan()
        assert (plan.changed, plan.done) == (1, ROWS - 1)
        (prior,) = [each for each in plan.warehouse if each.name == "prior"]
        summary = await lab.run(job)
    assert summary.requests == 1
    kept = wiring.open_store(lab.settings).runs.statements(summary.run_id)
    assert [cost.billed_bytes for cost in kept if cost.name == "prior"] == [prior.billed_bytes]


async def test_what_statements_cost_is_told_and_kept(lab: BigQueryRunLab, server: BigQueryServer) -> None:
    """By the run, by another process later; as much as BigQuery itself says of the jobs. Gone when the run is."""
    lab.dataset(ROWS)
    where = {
        "BATCH_LLM_WAREHOUSE": f"bigquery:{PROJECT}.tables",
        "BATCH_LLM_BIGQUERY_LOCATION": "US",
        "BATCH_LLM_BIGQUERY_USD_PER_TIB": "6.25",
    }
    cli = CommandLine(lab, where)
    async with lab.simulator():
        ran = await cli.run("run", cli.job_file(), "--yes", "--json")
    assert ran.code == 0, ran.err
    kept = wiring.open_store(lab.settings).runs.statements(ran.json["run_id"])
    with open_client(PROJECT) as client:
        jobs = [client.get_job(cost.job_id, location="US") for cost in kept]
    assert [cost.billed_bytes for cost in kept] == [job.total_bytes_billed for job in jobs]
    assert {"freeze", "check_frozen", "published", "promote_upsert"} <= {cost.name for cost in kept}
    billed = sum(cost.billed_bytes or 0 for cost in kept)
    told = ran.json["warehouse"]
    assert (told["statements"], told["billed_bytes"]) == (len(kept), billed)
    assert told["cost_usd"] == pytest.approx(billed / (1 << 40) * 6.25, abs=1e-6)
    status = await cli.run("status", "lab.yaml", "--json")
    assert status.json["warehouse"]["billed_bytes"] >= billed
    assert "warehouse" in (await cli.run("status")).out
    assert (await cli.run("forget", "lab.yaml", "--yes")).code == 0
    assert wiring.open_store(lab.settings).runs.statements(ran.json["run_id"]) == []


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
