"""What `doctor` says of BigQuery, and how it is reached: the real client over the wire, credentials, rights."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from batch_llm.config.secrets import scrub
from batch_llm.config.settings import Settings
from batch_llm.errors import ConfigurationError, WarehouseError
from batch_llm.warehouse import bigquery_check
from batch_llm.warehouse.bigquery_check import DATASET_RIGHTS, JOB_RIGHTS, READ_RIGHT, check_bigquery
from tests.bigquery_server.process import PROJECT
from tests.contract.bigquery_lab import DATASET, BigQueryLab

EDITOR = f"roles/bigquery.dataEditor on the dataset {PROJECT}.{DATASET}"
JOB_USER = f"roles/bigquery.jobUser on the project {PROJECT}"


@pytest.fixture
def settings(bq: BigQueryLab, tmp_path: Path) -> Settings:
    """Settings that lead to the fake by themselves, without a variable."""
    return Settings(home=tmp_path, warehouse=f"bigquery:{PROJECT}.{DATASET}", bigquery_endpoint=bq.server.url)


def test_a_good_dataset_is_one_line_and_stays_as_it_was(settings: Settings, bq: BigQueryLab) -> None:
    line = check_bigquery(settings)
    assert line.startswith(
        f"BigQuery dataset {PROJECT}.{DATASET} is reachable (location US, emulator at {bq.server.url}"
    )
    assert line.endswith("every right is there")
    assert list(bq.client.list_tables(DATASET)) == []


@pytest.mark.parametrize("right", [*DATASET_RIGHTS, *JOB_RIGHTS])
def test_a_missing_right_is_named_with_the_role_that_has_it(settings: Settings, bq: BigQueryLab, right: str) -> None:
    bq.server.configure(missing_permissions=[right])
    with pytest.raises(WarehouseError) as refused:
        check_bigquery(settings)
    assert right in str(refused.value)
    assert (JOB_USER if right in JOB_RIGHTS else EDITOR) in str(refused.value)


def test_all_missing_rights_are_named_at_once(settings: Settings, bq: BigQueryLab) -> None:
    missing = ["bigquery.tables.updateData", "bigquery.tables.delete", "bigquery.jobs.create"]
    bq.server.configure(missing_permissions=missing)
    with pytest.raises(WarehouseError) as refused:
        check_bigquery(settings)
    assert f"bigquery.tables.updateData, bigquery.tables.delete: ask for {EDITOR}" in str(refused.value)
    assert f"bigquery.jobs.create: ask for {JOB_USER}" in str(refused.value)


def test_a_table_that_could_not_be_dropped_drops_itself(settings: Settings, bq: BigQueryLab) -> None:
    bq.server.configure(missing_permissions=["bigquery.tables.delete"])
    with pytest.raises(WarehouseError):
        check_bigquery(settings)
    (left,) = bq.client.list_tables(DATASET)
    assert bq.client.get_table(left).expires is not None


def test_no_dataset_says_how_to_make_one(settings: Settings) -> None:
    with pytest.raises(WarehouseError, match=f"bq --location=EU mk --dataset {PROJECT}:absent"):
        check_bigquery(replace(settings, warehouse=f"bigquery:{PROJECT}.absent"))


def test_nobody_there_names_the_address(settings: Settings) -> None:
    with pytest.raises(WarehouseError, match=r"is the emulator running at http://127\.0\.0\.1:9"):
        check_bigquery(replace(settings, bigquery_endpoint="http://127.0.0.1:9"))


@pytest.mark.parametrize("proxy", ["http://me:hunter2@proxy:80a80", "http://me:hunter2@[proxy", "http://me:hunter2/@a"])
def test_a_proxys_password_is_not_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """An address that cannot be read is named whole by the library that reads it."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(WarehouseError, match="could not be reached") as refused:
        check_bigquery(replace(settings, bigquery_endpoint="http://bigquery.invalid:1"))
    assert "hunter" not in str(refused.value)


def test_without_credentials_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    with pytest.raises(WarehouseError, match="gcloud auth application-default login"):
        check_bigquery(Settings(home=tmp_path, warehouse="bigquery:research.texts"))


@pytest.mark.parametrize("in_base64", [True, False])
def test_a_key_from_memory_is_used_and_known_as_a_secret(
    settings: Settings, bq: BigQueryLab, *, in_base64: bool
) -> None:
    bq.server.configure(require_token=True)
    with pytest.raises(WarehouseError, match="no usable Google credentials"):
        check_bigquery(settings)
    key = bq.server.service_account.read_text()
    given = base64.b64encode(key.encode()).decode() if in_base64 else key
    assert "every right is there" in check_bigquery(replace(settings, bigquery_credentials=SecretStr(given)))
    assert given not in scrub(f"once upon a time {given}")


@pytest.mark.parametrize("given", ["planted-key-no-json", "cGxhbnRlZA==", '{"type": "planted-key"}', "[1]"])
def test_a_key_that_cannot_be_read_is_not_shown(settings: Settings, given: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_bigquery(replace(settings, bigquery_credentials=SecretStr(given)))
    assert "planted" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_jobs_run_in_the_project_that_pays(settings: Settings, bq: BigQueryLab) -> None:
    check_bigquery(replace(settings, bigquery_project="payer"))
    assert [each["path"] for each in bq.server.log() if each["operation"].startswith("jobs.")] == [
        "/bigquery/v2/projects/payer/jobs"
    ]


# ---- the Storage Read API


@pytest.fixture
def storage(bq: BigQueryLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", bq.server.grpc_address)


def test_the_way_rows_come_is_said(settings: Settings, bq: BigQueryLab, storage: None) -> None:
    assert check_bigquery(settings).endswith("every right is there; rows come by the Storage Read API")
    assert check_bigquery(replace(settings, bigquery_storage=False)).endswith("every right is there")
    assert list(bq.client.list_tables(DATASET)) == []


def test_the_right_to_read_that_way_is_optional(settings: Settings, bq: BigQueryLab, storage: None) -> None:
    bq.server.configure(missing_permissions=[READ_RIGHT])
    line = check_bigquery(settings)
    assert "every right is there; rows come by REST, for bigquery.readsessions.create is missing (optional" in line
    assert line.endswith(f"roles/bigquery.readSessionUser on the project {PROJECT})")
    bq.server.configure(missing_permissions=[READ_RIGHT, "bigquery.tables.updateData"])
    with pytest.raises(WarehouseError) as refused:
        check_bigquery(settings)
    assert READ_RIGHT not in str(refused.value)


def test_a_storage_read_api_that_is_away_is_named(
    settings: Settings, bq: BigQueryLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network may let REST through and no gRPC; then every reading would wait in vain."""
    monkeypatch.setenv("BIGQUERY_STORAGE_GRPC_ENDPOINT", "127.0.0.1:9")
    monkeypatch.setattr(bigquery_check, "_ALTOGETHER_S", 0.5)
    with pytest.raises(WarehouseError, match=r"gRPC\) could not be reached .*BATCH_LLM_BIGQUERY_STORAGE=off"):
        check_bigquery(settings)
    assert list(bq.client.list_tables(DATASET)) == []
