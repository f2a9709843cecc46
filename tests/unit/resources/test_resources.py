"""Resources are configuration plus a constructor."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import ConfigurationError, WarehouseError
from batch_llm.warehouse.bigquery import BigQueryWarehouse
from resources.bigquery import BigQueryConnection
from resources.journal import JournalResource
from resources.llm import LLMResource
from resources.settings import SettingsResource
from resources.warehouse import WarehouseResource


@pytest.fixture
def settings(tmp_path: Path) -> SettingsResource:
    return SettingsResource(root=str(tmp_path), home="state")


def test_paths_are_relative_to_the_root(settings: SettingsResource, tmp_path: Path) -> None:
    assert settings.create().home == tmp_path / "state"


def test_what_is_not_given_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_LLM_HOME", "elsewhere")
    assert SettingsResource(root=str(tmp_path)).create().home == tmp_path / "elsewhere"


def test_creating_opens_and_writes_nothing(settings: SettingsResource, tmp_path: Path) -> None:
    WarehouseResource(settings=settings).create()
    JournalResource(settings=settings).create()
    LLMResource(settings=settings, model="simulator/small").create()
    assert list(tmp_path.iterdir()) == []


def test_the_calls_of_one_run_share_one_budget(settings: SettingsResource) -> None:
    llm = LLMResource(settings=settings, model="simulator/small", budget_usd=1)
    assert llm.create() is llm.create()
    assert llm.model_name == "small"


def test_a_check_without_a_dataset_says_so(settings: SettingsResource) -> None:
    with pytest.raises(ConfigurationError, match="bigquery_dataset"):
        WarehouseResource(settings=settings).check_bigquery()


def test_bigquery_is_configured_in_one_place(tmp_path: Path) -> None:
    """What assets, sensors and the warehouse resource get; the environment fills what is left out."""
    connection = BigQueryConnection(project="payer", location="EU", gcp_credentials="planted", endpoint="http://h:1")
    resource = SettingsResource(root=str(tmp_path), bigquery_dataset="data.reports", bigquery=connection)
    found = resource.create()
    assert (found.bigquery_dataset, found.bigquery_job_project, found.bigquery_location) == (
        "data.reports", "payer", "EU",
    )  # fmt: skip
    assert found.bigquery_endpoint == "http://h:1"
    assert found.bigquery_credentials is not None
    assert found.bigquery_credentials.get_secret_value() == "planted"
    assert "planted" not in repr(found)
    assert isinstance(WarehouseResource(settings=resource).create(), BigQueryWarehouse)


def test_what_the_connection_leaves_out_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_LLM_WAREHOUSE", "bigquery:data.reports")
    monkeypatch.setenv("BATCH_LLM_BIGQUERY_PROJECT", "payer")
    monkeypatch.setenv("BATCH_LLM_BIGQUERY_LOCATION", "EU")
    found = SettingsResource(root=str(tmp_path), bigquery=BigQueryConnection()).create()
    assert (found.bigquery_job_project, found.bigquery_location) == ("payer", "EU")


def test_a_bigquery_without_credentials_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # google-auth would look for a metadata server
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    settings = SettingsResource(root=str(tmp_path), bigquery_dataset="p.reports")
    resource = WarehouseResource(settings=settings)
    for look in (resource.check_bigquery, lambda: resource.create().source("texts")):
        with pytest.raises(WarehouseError, match="gcloud auth application-default login"):
            look()
