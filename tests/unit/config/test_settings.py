"""The environment leads to places; nothing is touched."""

from __future__ import annotations

import secrets
from decimal import Decimal
from pathlib import Path

import pytest

from batch_llm.config.secrets import scrub
from batch_llm.config.settings import IN_PROCESS, Settings
from batch_llm.errors import ConfigurationError

CWD = Path("/some dir")


def settings(**variables: str) -> Settings:
    return Settings.from_environment({f"BATCH_LLM_{name}": value for name, value in variables.items()}, CWD)


def test_without_variables_everything_is_in_the_working_directory() -> None:
    found = settings()
    assert found.home == CWD / ".batch_llm"
    assert found.runs_dir == CWD / ".batch_llm" / "runs"
    assert found.duckdb_path == CWD / ".batch_llm" / "warehouse.duckdb"
    assert (found.providers_path, found.redis_url, found.warehouse, found.journal, found.dagster_url) == (None,) * 5


def test_an_empty_variable_counts_as_not_set() -> None:
    assert settings(HOME="", WAREHOUSE=" ", PROVIDERS="") == settings()


def test_relative_paths_are_relative_to_the_working_directory_and_tilde_is_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    found = settings(HOME="state/../s", PROVIDERS="~/providers.yaml", WAREHOUSE="duckdb:w/x.duckdb", JOURNAL="j")
    assert found.home == CWD / "s"
    assert found.providers_path == Path("/home/alice/providers.yaml")
    assert found.duckdb_path == CWD / "w" / "x.duckdb"
    assert found.runs_dir == CWD / "j"


def test_a_file_url_is_a_folder() -> None:
    assert settings(JOURNAL="file:///data/my%20runs").runs_dir == Path("/data/my runs")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BATCH_LLM_HOME", "here")
    assert Settings.from_environment().home == tmp_path / "here"


def test_an_object_store_has_a_working_copy_of_its_own_in_the_home() -> None:
    """What lies in the home already belongs to another journal."""
    found, other = settings(JOURNAL="gs://bucket/x/"), settings(JOURNAL="gs://bucket/y")
    assert found.journal_url == "gs://bucket/x"
    assert found.runs_dir.parent == found.home / "shared"
    assert found.runs_dir != other.runs_dir
    assert [settings(JOURNAL=local).journal_url for local in ("file:///a", "j", "")] == [None] * 3


@pytest.mark.parametrize("url", ["s3://KEY:{}@bucket/x", "s3://{}@bucket/x", "gs://bucket/x?token={}", "s3://[{}"])
def test_credentials_in_the_journals_url_are_refused_and_not_shown(url: str) -> None:
    word = secrets.token_hex(12)
    with pytest.raises(ConfigurationError, match="without user, password or options") as caught:
        settings(JOURNAL=url.format(word))
    assert word not in str(caught.value)


def test_runs_are_kept_for_ever_unless_somebody_says_how_long() -> None:
    assert settings().retention_days is None
    assert settings(RETENTION_DAYS="30").retention_days == 30
    assert settings(RETENTION_DAYS="0.5").retention_days == 0.5


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_retention_that_is_no_number_of_days_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="BATCH_LLM_RETENTION_DAYS must be a number of days above 0"):
        settings(RETENTION_DAYS=text)


def test_a_bigquery_dataset_is_a_warehouse() -> None:
    """Files are read and written by a DuckDB file beside it."""
    found = settings(WAREHOUSE="bigquery:p.d", BIGQUERY_LOCATION="EU", BIGQUERY_MAX_BYTES_BILLED="1000000000")
    assert (found.bigquery_dataset, found.bigquery_location, found.bigquery_max_bytes_billed) == ("p.d", "EU", 10**9)
    assert found.duckdb_path == CWD / ".batch_llm" / "files.duckdb"
    assert settings(WAREHOUSE="duckdb:x").bigquery_dataset is None
    assert settings().bigquery_dataset is None


@pytest.mark.parametrize("text", ["0", "-1", "1 GB", "1.5"])
def test_a_limit_that_is_no_number_of_bytes_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED must be a whole number of bytes"):
        settings(BIGQUERY_MAX_BYTES_BILLED=text)


def test_a_price_of_bytes_is_known_when_it_is_given() -> None:
    assert settings(BIGQUERY_USD_PER_TIB="6.25").bigquery_usd_per_tib == Decimal("6.25")
    assert settings().bigquery_usd_per_tib is None


@pytest.mark.parametrize("text", ["-1", "$6.25", "NaN", "inf"])
def test_a_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="BATCH_LLM_BIGQUERY_USD_PER_TIB must be a price in US dollars"):
        settings(BIGQUERY_USD_PER_TIB=text)


def test_the_storage_read_api_can_be_switched_off() -> None:
    assert [settings(BIGQUERY_STORAGE=text).bigquery_storage for text in ("", "on", "off")] == [True, True, False]
    with pytest.raises(ConfigurationError, match="BATCH_LLM_BIGQUERY_STORAGE must be on or off"):
        settings(BIGQUERY_STORAGE="no")


@pytest.mark.parametrize("value", ["postgres:x", "duckdb:", "bigquery:", "/some/path"])
def test_another_warehouse_is_refused_with_what_is_valid(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must be duckdb:PATH or bigquery:PROJECT\.DATASET"):
        _ = settings(WAREHOUSE=value).duckdb_path


def test_the_redis_password_is_never_shown() -> None:
    word = secrets.token_hex(12)
    found = settings(REDIS_URL=f"redis://:{word}@host:6379/0")
    assert word not in repr(found)
    assert scrub(f"cannot connect with {word}") == "cannot connect with ***"


def test_a_redis_password_given_as_an_option_is_known_as_a_secret_too() -> None:
    word = secrets.token_hex(12)
    settings(REDIS_URL=f"unix:///run/redis.sock?db=1&password={word}")
    assert scrub(f"cannot connect with {word}") == "cannot connect with ***"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/0",
        "rediss://:word-of-four@host/1",
        "unix:///run/redis.sock",
        "unix:///run/redis@home.sock?db=1",
        "redis://user:half%2Fword@host:6379/0",
        "redis://host:6379?password=half@word&db=1",
        IN_PROCESS,
    ],
)
def test_the_ways_to_name_a_store_of_limits(url: str) -> None:
    assert settings(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize("sign", "/?#")
@pytest.mark.parametrize("begin", ["half", "1234"])
@pytest.mark.parametrize(
    "place", ["redis://:{}@host:6379/0", "rediss://user:{}@host/0?a=b", "unix://:{}@/run/redis.sock"]
)
def test_a_password_that_is_not_escaped_is_refused_without_a_part_of_it(place: str, begin: str, sign: str) -> None:
    """Its beginning would be taken for a port, and shown."""
    end = secrets.token_hex(8)
    with pytest.raises(ConfigurationError, match=r"BATCH_LLM_REDIS_URL .* / \? # .*%2F") as caught:
        settings(REDIS_URL=place.format(f"{begin}{sign}{end}"))
    assert begin not in str(caught.value) and end not in str(caught.value)
    assert caught.value.__context__ is None
    assert scrub(f"no {begin}{sign}{end}") == "no ***"


@pytest.mark.parametrize(
    "url", ["redis://[half:word", "http://half:word@host", "half:word@host:6379", "memory://half", "memory", "half"]
)
def test_a_redis_url_that_is_none_is_refused_without_its_text(url: str) -> None:
    """It may hold a password wherever it is wrong."""
    with pytest.raises(ConfigurationError, match=r"redis://host:6379/0.*memory://") as caught:
        settings(REDIS_URL=url)
    assert "half" not in str(caught.value)
