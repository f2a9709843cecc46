"""Tables from files and frames: the doors, with either warehouse.

Belongs here: `batch-llm upload`, `batch_llm.upload`. Not here: what a warehouse promises of it
(tests/contract/test_warehouse_loads.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import batch_llm
from batch_llm.config.settings import Settings
from batch_llm.errors import InputError, OutputError
from batch_llm.warehouse.base import Warehouse
from batch_llm.warehouse.bigquery import open_client
from batch_llm.wiring import open_store
from tests.bigquery_server.process import PROJECT, bigquery_server
from tests.integration.cli_lab import CommandLine
from tests.integration.lab import Lab

FRAME = pd.DataFrame(
    {"id": [1, 2, 3], "text": ["a", None, "ünï"], "cost": [Decimal("0.10"), None, Decimal("2.00")]},
)


@pytest.fixture(scope="module")
def bigquery_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server.url


@pytest.fixture(params=["duckdb", "bigquery"])
def where(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment that leads to a warehouse without tables, of this process too."""
    found = {"BATCH_LLM_HOME": str(home)}
    if request.param == "bigquery":
        dataset = "d" + home.parent.name.replace("-", "_")
        found["BIGQUERY_EMULATOR_HOST"] = request.getfixturevalue("bigquery_url")
        found["BATCH_LLM_WAREHOUSE"] = f"bigquery:{PROJECT}.{dataset}"
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", found["BIGQUERY_EMULATOR_HOST"])
        with open_client(PROJECT) as client:
            client.create_dataset(f"{PROJECT}.{dataset}")
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def warehouse(where: Mapping[str, str]) -> Warehouse:
    return open_store(Settings.from_environment()).warehouse


def rows_of(warehouse: Warehouse, table: str) -> list[dict[str, Any]]:
    rows = [row for batch in warehouse.rows(table) for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["id"])


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME.set_index("id"), pa.Table.from_pandas(FRAME), pl.from_pandas(FRAME)],
    ids=["pandas", "pandas with a named index", "pyarrow", "polars"],
)
def test_a_frame_becomes_a_table(warehouse: Warehouse, frame: Any) -> None:
    loaded = batch_llm.upload(frame, "given")
    assert (loaded.rows, loaded.place) == (3, "given")
    assert rows_of(warehouse, "given") == FRAME.astype(object).where(FRAME.notna(), None).to_dict("records")


def test_times_keep_their_meaning(warehouse: Warehouse) -> None:
    at = [datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)]
    batch_llm.upload(pd.DataFrame({"id": [1], "at": pd.to_datetime(at)}), "given")
    assert rows_of(warehouse, "given")[0]["at"] == at[0]


def test_a_column_that_would_change_is_refused_by_name(warehouse: Warehouse) -> None:
    frame = pd.DataFrame({"id": [1], "took": pd.to_timedelta([5], unit="s")})
    with pytest.raises(InputError, match="'took'"):
        batch_llm.upload(frame, "given")
    with pytest.raises(InputError, match="no table 'given'"):
        warehouse.source("given")


def test_a_file_becomes_a_table_from_python(warehouse: Warehouse, tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "given.parquet")
    assert batch_llm.upload(tmp_path / "given.parquet", "given").rows == 3
    with pytest.raises(OutputError, match="is there already"):
        batch_llm.upload(str(tmp_path / "given.parquet"), "given")
    assert batch_llm.upload(FRAME.head(1), "given", replace=True).rows == 1
    assert len(rows_of(warehouse, "given")) == 1


async def test_the_command_loads_refuses_and_replaces(warehouse: Warehouse, where: Mapping[str, str], lab: Lab) -> None:
    cli = CommandLine(lab, where)
    (lab.folder / "given.csv").write_text("id,text\n1,a\n2,b\n", encoding="utf-8")
    said = await cli.run("upload", "given.csv", "given", "--json")
    assert said.code == 0, said.err
    assert {**said.json, "size_bytes": 0} == {
        "table": "given", "rows": 2, "size_bytes": 0, "file": str(lab.folder / "given.csv"),
    }  # fmt: skip
    again = await cli.run("upload", "given.csv", "given")
    assert (again.code, again.out) == (2, "")
    assert "--replace" in again.err
    (lab.folder / "given.csv").write_text("id,word\n7,c\n", encoding="utf-8")
    replaced = await cli.run("upload", "given.csv", "given", "--replace")
    assert replaced.code == 0, replaced.err
    assert replaced.out.startswith("given: 1 rows of given.csv (0.0 MB as Parquet)")
    assert rows_of(warehouse, "given") == [{"id": 7, "word": "c"}]


async def test_the_command_says_what_is_wrong_with_a_file(where: Mapping[str, str], lab: Lab) -> None:
    said = await CommandLine(lab, where).run("upload", "absent.parquet", "given")
    assert said.code == 2
    assert "absent.parquet" in said.err
