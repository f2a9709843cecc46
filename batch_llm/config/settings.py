"""Settings: what the environment says about where things are.

Belongs here: the ``BATCH_LLM_*`` variables and the places they lead to. Not here: secrets of providers
(secrets.py), the providers file itself (providers_file.py), making folders or opening anything.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from batch_llm.config.secrets import mask, register_secret
from batch_llm.errors import ConfigurationError

__all__ = ["IN_PROCESS", "Settings"]

DEFAULT_HOME = ".batch_llm"
IN_PROCESS = "memory://"
"""The `Settings.redis_url` that asks for limits and budgets inside each process only."""
REDIS_SCHEMES = ("redis", "rediss", "unix")
LOCAL_SCHEMES = ("file", "local")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the state lives and which services are used; all paths absolute."""

    home: Path  # BATCH_LLM_HOME: state; default .batch_llm in the working directory
    providers_path: Path | None = None  # BATCH_LLM_PROVIDERS; None: the default providers
    # BATCH_LLM_REDIS_URL; may hold a password. None: the home's private Redis; `IN_PROCESS`: none at all
    redis_url: str | None = field(default=None, repr=False)
    warehouse: str | None = None  # BATCH_LLM_WAREHOUSE: duckdb:PATH or bigquery:PROJECT.DATASET; None: in the home
    bigquery_project: str | None = None  # BATCH_LLM_BIGQUERY_PROJECT: where jobs run and are paid; None: the dataset's
    # the content of a credentials file, and http://host:port of an emulator: from a Dagster resource only; None: what
    # Google's libraries find, GOOGLE_APPLICATION_CREDENTIALS and BIGQUERY_EMULATOR_HOST included
    bigquery_credentials: SecretStr | None = None
    bigquery_endpoint: str | None = None
    bigquery_location: str | None = None  # BATCH_LLM_BIGQUERY_LOCATION: where jobs run; None: where the dataset is
    bigquery_max_bytes_billed: int | None = (
        None  # BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED, of one statement; None: no limit
    )
    # BATCH_LLM_BIGQUERY_USD_PER_TIB, of bytes billed; None: what a statement costs is not known
    bigquery_usd_per_tib: Decimal | None = None
    # BATCH_LLM_BIGQUERY_STORAGE, on or off: may rows come by the Storage Read API, where its client is installed
    bigquery_storage: bool = True
    journal: str | None = None  # BATCH_LLM_JOURNAL: a folder, file:// or another fsspec URL; None: in the home
    retention_days: float | None = None  # BATCH_LLM_RETENTION_DAYS; None: runs are kept for ever
    dagster_url: str | None = None  # BATCH_LLM_DAGSTER_URL
    cwd: Path = field(default_factory=Path.cwd, repr=False, compare=False)  # what relative paths are relative to

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
        """Read the ``BATCH_LLM_*`` variables; an empty one counts as not set. Touches no file.

        Args:
            environ: The variables; None: this process's.
            cwd: What relative paths are relative to; None: the working directory.

        Raises:
            ConfigurationError: ``BATCH_LLM_REDIS_URL`` is of no kind that is known, ``BATCH_LLM_JOURNAL`` holds
                credentials (neither is shown), ``BATCH_LLM_RETENTION_DAYS`` is no number of days,
                ``BATCH_LLM_BIGQUERY_MAX_BYTES_BILLED`` no number of bytes, ``BATCH_LLM_BIGQUERY_USD_PER_TIB`` no price,
                or ``BATCH_LLM_BIGQUERY_STORAGE`` neither on nor off.
        """
        variables = os.environ if environ is None else environ
        base = (Path.cwd() if cwd is None else cwd).absolute()

        def read(name: str) -> str | None:
            return variables.get(f"BATCH_LLM_{name}", "").strip() or None

        providers = read("PROVIDERS")
        redis_url = _redis_url(read("REDIS_URL"))
        return cls(
            home=_absolute(read("HOME") or DEFAULT_HOME, base),
            providers_path=None if providers is None else _absolute(providers, base),
            redis_url=redis_url,
            warehouse=read("WAREHOUSE"),
            bigquery_project=read("BIGQUERY_PROJECT"),
            bigquery_location=read("BIGQUERY_LOCATION"),
            bigquery_max_bytes_billed=_bytes("BIGQUERY_MAX_BYTES_BILLED", read("BIGQUERY_MAX_BYTES_BILLED")),
            bigquery_usd_per_tib=_price("BIGQUERY_USD_PER_TIB", read("BIGQUERY_USD_PER_TIB")),
            bigquery_storage=_switch("BIGQUERY_STORAGE", read("BIGQUERY_STORAGE")),
            journal=_journal(read("JOURNAL")),
            retention_days=_days(read("RETENTION_DAYS")),
            dagster_url=read("DAGSTER_URL"),
            cwd=base,
        )

    @property
    def journal_url(self) -> str | None:
        """The store of journals and run records that other machines share; None when that is a folder."""
        if self.journal is None:
            return None
        scheme, separator, _ = self.journal.partition("://")
        return self.journal.rstrip("/") if separator and scheme not in LOCAL_SCHEMES else None

    @property
    def runs_dir(self) -> Path:
        """The folder of run records, frozen slices and journals; of a shared store, this machine's copies of them."""
        if self.journal_url is not None:
            digest = hashlib.blake2b(self.journal_url.encode(), digest_size=6).hexdigest()
            return self.home / "shared" / digest
        if self.journal is None:
            return self.home / "runs"
        if "://" not in self.journal:
            return _absolute(self.journal, self.cwd)
        return _absolute(unquote(urlsplit(self.journal).path), self.cwd)

    @property
    def uploads_dir(self) -> Path:
        """The folder of tables that came from a program's memory, as files."""
        return self.home / "uploads"

    @property
    def answers_path(self) -> Path:
        """The index of answers that stand in journals; in the home, whatever else is elsewhere."""
        return self.home / "answers.sqlite"

    @property
    def bigquery_dataset(self) -> str | None:
        """``PROJECT.DATASET``, when that is the warehouse; else None."""
        kind, _, place = (self.warehouse or "").partition(":")
        return place if kind == "bigquery" and place else None

    @property
    def bigquery_job_project(self) -> str | None:
        """The project where BigQuery's jobs run, which pays them; None when the warehouse is another."""
        return self.bigquery_dataset and (self.bigquery_project or self.bigquery_dataset.rpartition(".")[0])

    @property
    def duckdb_path(self) -> Path:
        """The database file: the warehouse, or beside BigQuery what reads and writes files.

        Raises:
            ConfigurationError: ``BATCH_LLM_WAREHOUSE`` names neither, or no path.
        """
        if self.warehouse is None:
            return self.home / "warehouse.duckdb"
        if self.bigquery_dataset is not None:
            return self.home / "files.duckdb"
        kind, _, place = self.warehouse.partition(":")
        if kind != "duckdb" or not place:
            raise ConfigurationError(
                "BATCH_LLM_WAREHOUSE must be duckdb:PATH or bigquery:PROJECT.DATASET (or unset: the warehouse is then "
                f"in the home), got {mask(self.warehouse)}"
            )
        return _absolute(place, self.cwd)


def _absolute(text: str, base: Path) -> Path:
    return Path(os.path.normpath(base / os.path.expanduser(text)))


def _journal(url: str | None) -> str | None:
    """The URL as it is. Credentials in it are refused: messages and logs name the store."""
    if url is None or "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        secret = parts.password or parts.username or parts.query
    except ValueError:
        secret = url
    if secret:
        register_secret(secret)
        raise ConfigurationError(
            "BATCH_LLM_JOURNAL (it is not shown) must be a URL like s3://bucket/folder or gs://bucket/folder, without "
            "user, password or options: the store's client finds credentials by itself (AWS_PROFILE, "
            "AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, the machine's role), and AWS_ENDPOINT_URL names "
            "another S3"
        )
    return url


def _days(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not 0 < days < math.inf:
        raise ConfigurationError(
            f"BATCH_LLM_RETENTION_DAYS must be a number of days above 0, such as 30, got {mask(text)}; unset it to "
            "keep everything"
        )
    return days


def _bytes(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not int(text):
        raise ConfigurationError(f"BATCH_LLM_{name} must be a whole number of bytes above 0, got {mask(text)}")
    return int(text)


def _price(name: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or usd < 0:
        raise ConfigurationError(
            f"BATCH_LLM_{name} must be a price in US dollars, such as 6.25, got {mask(text)}; unset it when the price "
            "is not known"
        )
    return usd


def _switch(name: str, text: str | None) -> bool:
    if text not in (None, "on", "off"):
        raise ConfigurationError(f"BATCH_LLM_{name} must be on or off, got {mask(text)}")
    return text != "off"


def _redis_url(url: str | None) -> str | None:
    """The URL as it is, its password known as a secret; the rest of it is judged when it is used."""
    if url is None or url == IN_PROCESS:
        return url
    if _password_is_cut(url):
        password = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        for word in (password, unquote(password)):
            register_secret(word)
        raise ConfigurationError(
            "BATCH_LLM_REDIS_URL (it is not shown: it may hold a password) has a port that is none, or a password "
            "with one of / ? # in it: write those as %2F, %3F and %23"
        )
    try:
        parts = urlsplit(url)
        passwords = [parts.password, *parse_qs(parts.query).get("password", [])]
    except ValueError:
        parts, passwords = None, []
    if parts is None or parts.scheme not in REDIS_SCHEMES:
        raise ConfigurationError(
            "BATCH_LLM_REDIS_URL (it is not shown: it may hold a password) is not a URL like redis://host:6379/0, "
            f"rediss://host:6380/0 (TLS), unix:///path/of/redis.sock or {IN_PROCESS} (limits inside each process "
            "only); unset it to use the home's private Redis"
        )
    for password in filter(None, passwords):
        register_secret(password)
        register_secret(unquote(password))
    return url


def _password_is_cut(url: str) -> bool:
    """Whether one of / ? # in a password ends, as it does in every URL, the part where the password is looked for."""
    try:
        parts = urlsplit(url)
        if not parts.netloc:
            return False  # a socket's path may be any
        _ = parts.port
    except ValueError:
        return "://[" not in url  # else the URL as a whole is none
    return "@" in parts.path + parts.fragment + parts.query.partition("=")[0]
