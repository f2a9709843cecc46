"""Checks of what lies outside this process: Redis, the warehouse, a provider's clock.

Belongs here: one function per service, each answering with a `Check`. Not here: the list and the page (doctor.py).
"""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from batch_llm.errors import BatchLLMError, ConfigurationError, LimiterError

if TYPE_CHECKING:
    from batch_llm.config.providers_file import ProvidersFile
    from batch_llm.config.settings import Settings

__all__ = ["Check", "Verdict", "check_clock", "check_redis", "check_warehouse", "skew_verdict"]

TIMEOUT_S = 5.0
MOST_SKEW_S = 60.0


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the page."""

    name: str
    verdict: Verdict
    found: str

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return {"name": self.name, "verdict": self.verdict.value, "found": self.found}


def check_redis(settings: Settings) -> Check:
    """The Redis of the limits can hold them; starts nothing; the URL's password is never shown."""
    from batch_llm.config.settings import IN_PROCESS
    from batch_llm.limiter.private_redis import private_redis_executable, private_redis_url

    if settings.redis_url == IN_PROCESS:
        return Check("redis", Verdict.SKIPPED, f"{IN_PROCESS}: two processes at once do not share limits and budgets")
    if settings.redis_url is not None:
        return asyncio.run(_ask_redis(settings.redis_url, ""))
    try:
        executable = private_redis_executable()
        url = private_redis_url(settings.home)
    except LimiterError as error:
        return Check("redis", Verdict.FAILED, str(error))
    own = "the home's own (BATCH_LLM_REDIS_URL is not set)"
    if url is None:
        return Check("redis", Verdict.OK, f"{own}: runs while a command needs it, from {executable}")
    return asyncio.run(_ask_redis(url, f"{own}: "))


async def _ask_redis(url: str, which: str) -> Check:
    from batch_llm.limiter.opening import try_out
    from batch_llm.limiter.redis_link import RedisLink

    try:
        async with RedisLink(url) as link:
            await try_out(link)
    except (LimiterError, ConfigurationError) as error:
        return Check("redis", Verdict.FAILED, f"{which}{error}")
    if link.warnings:
        return Check("redis", Verdict.WARNING, f"{which}{'; '.join(link.warnings)}")
    return Check("redis", Verdict.OK, f"{which}{link.place} answers, Redis {link.version}")


def check_warehouse(settings: Settings) -> Check:
    """The warehouse can be opened, or made."""
    if (settings.warehouse or "").startswith("bigquery:"):
        return _check_bigquery(settings)
    try:
        path = settings.duckdb_path
        if not path.exists():
            return Check("warehouse", Verdict.OK, f"{path} (made by the first run)")
        from batch_llm.wiring import open_store

        tables = sum(1 for _ in open_store(settings).warehouse.tables("*"))
    except BatchLLMError as error:
        return Check("warehouse", Verdict.FAILED, str(error))
    return Check("warehouse", Verdict.OK, f"{path}: opens, {tables} table(s)")


def _check_bigquery(settings: Settings) -> Check:
    if settings.bigquery_dataset is None or "." not in settings.bigquery_dataset:
        return Check("warehouse", Verdict.FAILED, "BATCH_LLM_WAREHOUSE must be bigquery:PROJECT.DATASET")
    from batch_llm.warehouse.bigquery_check import check_bigquery  # Google's client takes a second

    try:
        return Check("warehouse", Verdict.OK, check_bigquery(settings))
    except BatchLLMError as error:
        return Check("warehouse", Verdict.FAILED, str(error))


def check_clock(file: ProvidersFile, *, declared: bool) -> Iterator[Check]:
    """The wall clock against the Date header of each provider's server; calls them, without a key.

    ``declared``: the user wrote the file; a built-in provider that cannot be reached is only worth a warning.
    """
    from batch_llm.config.providers_file import base_url_of

    for name, provider in file.providers.items():
        url = base_url_of(provider, provider.pools[0])
        if url is None:
            yield Check("clock", Verdict.SKIPPED, f"{name}: answers in this process")
        else:
            yield _compare_clock(name, url, Verdict.FAILED if declared else Verdict.WARNING)


def _compare_clock(name: str, url: str, unreachable: Verdict) -> Check:
    try:
        date = _date_header(url)
    except OSError as error:
        return Check("clock", unreachable, f"{name}: {urlsplit(url).netloc} cannot be reached: {error}")
    if date is None:
        return Check("clock", Verdict.SKIPPED, f"{name}: {urlsplit(url).netloc} answers without a Date")
    return skew_verdict(name, (datetime.now(UTC) - date).total_seconds())


def _date_header(url: str) -> datetime | None:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  http(s) only: the providers file is checked
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  as above
            header = answer.headers.get("Date")
    except urllib.error.HTTPError as error:  # 401 and 404 tell the time as well
        header = error.headers.get("Date")
        error.close()
    return None if header is None else parsedate_to_datetime(header)


def skew_verdict(name: str, skew_s: float) -> Check:
    """A clock that is far off makes times and expiries wrong."""
    found = f"{name}: this clock differs by {skew_s:+.0f} s"
    if abs(skew_s) > MOST_SKEW_S:
        return Check("clock", Verdict.WARNING, f"{found}; set the clock (NTP)")
    return Check("clock", Verdict.OK, found)
