"""One job against a real project of BigQuery: what the fake of the other tests was never compared with.

Asked for by a variable, as no account can be here:

    BATCH_LLM_TEST_BIGQUERY=my-project.my_dataset .venv/bin/python -m pytest tests/acceptance/test_bigquery_real.py -s

Credentials are the machine's (GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`). It makes
tables whose names begin with ``test_``, and drops them; it costs less than a cent (some statements of 10 MB). The model
is the simulator: nothing is asked of a provider.

Belongs here: what must hold of the real service. Not here: faults (tests/contract/test_warehouse_bigquery_*.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from google.cloud import bigquery

import batch_llm
from batch_llm.config.settings import Settings
from batch_llm.warehouse.bigquery import client_for
from batch_llm.warehouse.bigquery_check import check_bigquery
from batch_llm.wiring import Store, open_store

pytestmark = pytest.mark.timeout(1_800)

ROWS = 500
PROVIDERS = {
    "providers": {
        "simulator": {
            "kind": "simulator",
            "pools": [{"name": "main", "models": ["*"], "limits": {"requests_per_minute": 60_000}}],
        }
    }
}


@dataclass(frozen=True)
class RealDataset:
    """The dataset, with names of this test's own in it."""

    settings: Settings
    client: bigquery.Client
    source: str
    output: str

    @property
    def store(self) -> Store:
        return open_store(self.settings)

    def sql(self, statement: str) -> None:
        """Run a user's own statement."""
        config = bigquery.QueryJobConfig(default_dataset=str(self.settings.bigquery_dataset))
        job = self.client.query(statement, config)
        job.result()
        print(f"{job.total_bytes_billed or 0:>12,} bytes billed: {statement[:70]}")


@pytest.fixture
def real(
    real_bigquery: Mapping[str, str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RealDataset]:
    if not real_bigquery:  # also where nothing else may be left out: a gate has no account
        pytest.skip("BATCH_LLM_TEST_BIGQUERY is not set: nothing was compared with the real BigQuery")
    providers = tmp_path / "providers.yaml"
    providers.write_text(yaml.safe_dump(PROVIDERS))
    for name, value in {**real_bigquery, "BATCH_LLM_HOME": str(home), "BATCH_LLM_PROVIDERS": str(providers)}.items():
        monkeypatch.setenv(name, value)
    settings, name = Settings.from_environment(), f"test_{uuid.uuid4().hex[:10]}"
    client = client_for(settings)
    made = RealDataset(settings, client, f"{name}_in", f"{name}_out")
    try:
        yield made
    finally:
        for record in made.store.runs.all():
            made.store.warehouse.forget(record.run_id)
        for table in (made.source, made.output, f"{made.output}__live"):
            client.delete_table(f"{settings.bigquery_dataset}.{table}", not_found_ok=True)
        client.close()


def test_a_job_in_the_real_bigquery(real: RealDataset) -> None:
    """Rights, upload, a run, a run of what changed, the output: each key once, and only 110 rows are asked again."""
    print(check_bigquery(real.settings))
    given = pa.table({"id": range(ROWS), "text": [f"text {number}, ünï" for number in range(ROWS)]})
    assert batch_llm.upload(given, real.source).rows == ROWS
    (listed,) = real.store.warehouse.tables(f"{real.source}*")
    assert (listed.ref, listed.rows) == (real.source, ROWS)

    assert batch_llm.run(job(real), progress=False).summary.requests == ROWS
    assert batch_llm.run(job(real), progress=False).summary.nothing_to_do
    real.sql(
        f"INSERT INTO {real.source} (id, text) SELECT id, CONCAT('new ', CAST(id AS STRING)) "
        f"FROM UNNEST(GENERATE_ARRAY({ROWS}, {ROWS + 99})) AS id"
    )
    real.sql(f"UPDATE {real.source} SET text = CONCAT(text, ', changed') WHERE id BETWEEN 11 AND 20")
    assert batch_llm.run(job(real), progress=False).summary.requests == 110

    rows = sorted(batch_llm.output(job(real)).to_dict("records"), key=lambda row: int(row["id"]))
    assert [int(row["id"]) for row in rows] == list(range(ROWS + 100))
    assert {row["llm_status"] for row in rows} == {"ok"}
    assert {row["tone"] for row in rows} <= {"calm", "tense"}


def job(real: RealDataset) -> dict[str, Any]:
    return {
        "name": "real",
        "input": {"table": real.source, "key": ["id"]},
        "prompt": {"user": "Grade: {{ text }}"},
        "model": "simulator/small",
        "params": {"max_output_tokens": 100},
        "output": {"table": real.output, "schema": {"tone": {"enum": ["calm", "tense"]}}},
        "slices": {"rows": 200},
    }
