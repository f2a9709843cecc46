"""Resources are configuration plus a constructor."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster_gcp import BigQueryResource

from batch_llm.errors import ConfigurationError, WarehouseError
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
        WarehouseResource(settings=settings, bigquery=BigQueryResource(project="p")).check_bigquery()


def test_a_bigquery_without_credentials_says_what_to_do(
    settings: SettingsResource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # google-auth would look for a metadata server
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    bigquery = BigQueryResource(project="p")
    resource = WarehouseResource(settings=settings, bigquery=bigquery, bigquery_dataset="p.reports")
    for look in (resource.check_bigquery, lambda: resource.create().source("texts")):
        with pytest.raises(WarehouseError, match="gcloud auth application-default login"):
            look()
