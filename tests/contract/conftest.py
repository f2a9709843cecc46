"""Servers that contract tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from batch_llm.warehouse.base import Warehouse
from tests.bigquery_server.process import BigQueryServer, bigquery_server
from tests.contract.bigquery_lab import DATASET, BigQueryLab
from tests.contract.simulator_lab import Open, simulators
from tests.contract.warehouse_lab import LABS, Lab
from tests.redis_server import RedisServer, redis_server
from tests.s3_server import S3Server, s3_environment, s3_server


@pytest.fixture(scope="session")
def shared_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 for tests that give their objects names of their own."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for tests that give their keys names of their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def bigquery(shared_bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> BigQueryServer:
    """The fake of BigQuery without anything in it, which the environment leads to."""
    shared_bigquery.reset()
    shared_bigquery.configure(limits={"table_changes_per_10_s": 1_000, "metadata_changes_per_10_s": 1_000})
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", shared_bigquery.url)
    return shared_bigquery


@pytest.fixture(params=LABS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every kind of warehouse; the environment leads to what it needs."""
    if request.param != "duckdb":
        request.getfixturevalue("bigquery")
    if request.param == "bigquery_storage":
        address = request.getfixturevalue("shared_bigquery").grpc_address
        monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", address)
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def lab(kind: str, tmp_path: Path) -> Lab:
    """A warehouse of each kind, empty."""
    return LABS[kind](tmp_path / "home")


@pytest.fixture
def warehouse(lab: Lab) -> Warehouse:
    """Just the warehouse."""
    return lab.warehouse


@pytest.fixture
def s3(shared_s3: S3Server, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty folder in an S3, which the environment leads to."""
    with s3_environment(shared_s3):
        yield f"{shared_s3.url}/{tmp_path.name}"


@pytest.fixture(scope="session")
def shared_bigquery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BigQueryServer]:
    """A fake of BigQuery for tests that `reset` it."""
    with bigquery_server(tmp_path_factory.mktemp("bigquery")) as server:
        yield server


@pytest.fixture
def bq(shared_bigquery: BigQueryServer) -> Iterator[BigQueryLab]:
    """A fake of BigQuery with nothing but an empty dataset, and the real client on it."""
    shared_bigquery.reset()
    # a test changes its table more often than that
    shared_bigquery.configure(limits={"table_changes_per_10_s": 1_000, "metadata_changes_per_10_s": 1_000})
    with shared_bigquery.client() as client:
        client.create_dataset(DATASET)
        yield BigQueryLab(shared_bigquery, client)


@pytest.fixture
async def open_simulator() -> AsyncIterator[Open]:
    """Opens simulators with SDK clients."""
    async with simulators() as opened:
        yield opened
