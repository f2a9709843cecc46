"""Settings: what the environment says about where things are.

Belongs here: the ``BATCH_LLM_*`` variables and the places they lead to. Not here: secrets of providers
(secrets.py), the providers file itself (providers_file.py), making folders or opening anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from batch_llm.config.secrets import mask, register_secret
from batch_llm.errors import ConfigurationError, NotYetAvailable

__all__ = ["IN_PROCESS", "Settings"]

DEFAULT_HOME = ".batch_llm"
IN_PROCESS = "memory://"
"""The `Settings.redis_url` that asks for limits and budgets inside each process only."""
REDIS_SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the state lives and which services are used; all paths absolute."""

    home: Path  # BATCH_LLM_HOME: state; default .batch_llm in the working directory
    providers_path: Path | None = None  # BATCH_LLM_PROVIDERS; None: the default providers
    # BATCH_LLM_REDIS_URL; may hold a password. None: the home's private Redis; `IN_PROCESS`: none at all
    redis_url: str | None = field(default=None, repr=False)
    warehouse: str | None = None  # BATCH_LLM_WAREHOUSE: duckdb:PATH; None: in the home
    journal: str | None = None  # BATCH_LLM_JOURNAL: a folder or file:// URL; None: in the home
    dagster_url: str | None = None  # BATCH_LLM_DAGSTER_URL
    cwd: Path = field(default_factory=Path.cwd, repr=False, compare=False)  # what relative paths are relative to

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
        """Read the ``BATCH_LLM_*`` variables; an empty one counts as not set. Touches no file.

        Args:
            environ: The variables; None: this process's.
            cwd: What relative paths are relative to; None: the working directory.

        Raises:
            ConfigurationError: ``BATCH_LLM_REDIS_URL`` is of no kind that is known; its text is not shown.
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
            journal=read("JOURNAL"),
            dagster_url=read("DAGSTER_URL"),
            cwd=base,
        )

    @property
    def runs_dir(self) -> Path:
        """The folder of run records, frozen slices and journals.

        Raises:
            NotYetAvailable: ``BATCH_LLM_JOURNAL`` names an object store.
        """
        if self.journal is None:
            return self.home / "runs"
        scheme, separator, _ = self.journal.partition("://")
        if not separator:
            return _absolute(self.journal, self.cwd)
        if scheme != "file":
            raise NotYetAvailable(
                f"BATCH_LLM_JOURNAL={scheme}://...: a journal on an object store is not yet available; "
                "give a local folder or unset it"
            )
        return _absolute(unquote(urlsplit(self.journal).path), self.cwd)

    @property
    def answers_path(self) -> Path:
        """The index of answers that stand in journals; in the home, whatever else is elsewhere."""
        return self.home / "answers.sqlite"

    @property
    def duckdb_path(self) -> Path:
        """The warehouse's database file.

        Raises:
            NotYetAvailable: ``BATCH_LLM_WAREHOUSE`` names BigQuery.
            ConfigurationError: It names something else, or no path.
        """
        if self.warehouse is None:
            return self.home / "warehouse.duckdb"
        kind, _, place = self.warehouse.partition(":")
        if kind == "bigquery":
            raise NotYetAvailable(
                f"BATCH_LLM_WAREHOUSE={self.warehouse}: BigQuery is not yet available; use duckdb:PATH or unset it"
            )
        if kind != "duckdb" or not place:
            raise ConfigurationError(
                "BATCH_LLM_WAREHOUSE must be duckdb:PATH (or unset: the warehouse is then in the home), "
                f"got {mask(self.warehouse)}"
            )
        return _absolute(place, self.cwd)


def _absolute(text: str, base: Path) -> Path:
    return Path(os.path.normpath(base / os.path.expanduser(text)))


def _redis_url(url: str | None) -> str | None:
    """The URL as it is, its password known as a secret; the rest of it is judged when it is used."""
    if url is None or url == IN_PROCESS:
        return url
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
