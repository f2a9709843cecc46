"""``batch-llm doctor``: is everything there that a run needs?

Belongs here: the list of checks, those of files and disk, the page. Not here: checks of services (doctor_services.py,
doctor_store.py). Nothing is spent, no secret is printed; nothing is written but one object in a shared store of
journals and one empty table in a dataset of BigQuery, which are deleted again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from batch_llm.cli.doctor_services import Check, Verdict, check_clock, check_redis, check_warehouse
from batch_llm.cli.doctor_store import check_store
from batch_llm.cli.exits import Exit
from batch_llm.cli.speech import number, print_json, say
from batch_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from batch_llm.config.providers_file import PoolSpec, ProvidersFile, ProviderSpec
    from batch_llm.config.settings import Settings

__all__ = [
    "check_disk",
    "check_encodings",
    "check_home",
    "check_journal",
    "check_providers",
    "doctor",
    "examine",
]

GIB = 1024**3
LEAST_FREE_BYTES = GIB
TOKEN_MODELS = ("gpt-4o", "gpt-4")  # one per encoding in use: o200k_base, cl100k_base


def doctor(*, online: bool, json: bool) -> Exit:
    """Print every check; exit code 0 when none failed, else 2."""
    from batch_llm.config.settings import Settings

    checks = list(examine(Settings.from_environment(), os.environ, online=online))
    good = all(check.verdict is not Verdict.FAILED for check in checks)
    if json:
        print_json({"ok": good, "checks": [check.as_json() for check in checks]})
    else:
        for check in checks:
            say(f"{check.verdict.value:<8}{check.name:<12}{check.found}")
        say("Everything a run needs is there." if good else "What is marked `failed` must be mended first.")
    return Exit.OK if good else Exit.USAGE


def examine(settings: Settings, environ: Mapping[str, str], *, online: bool) -> Iterator[Check]:
    """All checks, one after the other."""
    from batch_llm.config.providers_file import load_providers

    yield check_home(settings.home)
    try:
        file = load_providers(settings.providers_path)
    except ConfigurationError as error:
        yield Check("providers", Verdict.FAILED, str(error))
    else:
        where = str(settings.providers_path or "built in (BATCH_LLM_PROVIDERS is not set)")
        yield Check("providers", Verdict.OK, f"{where}: {', '.join(file.providers)}")
        declared = settings.providers_path is not None
        yield from check_providers(file, environ, declared=declared)
        if online:
            yield from check_clock(file, declared=declared)
        else:
            found = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; --online compares it with the providers'"
            yield Check("clock", Verdict.SKIPPED, found)
    yield check_redis(settings)
    yield check_warehouse(settings)
    yield from check_journal(settings)
    yield check_encodings()


def check_home(home: Path) -> Check:
    """The home can be written, or made."""
    place = _nearest(home)
    if place.is_dir() and os.access(place, os.W_OK):
        return Check("home", Verdict.OK, str(home) if home.exists() else f"{home} (made by the first run)")
    return Check("home", Verdict.FAILED, f"{home}: {place} cannot be written; set BATCH_LLM_HOME")


def check_providers(file: ProvidersFile, environ: Mapping[str, str], *, declared: bool) -> Iterator[Check]:
    """Keys that are needed and the limits that were declared, pool by pool.

    ``declared``: the user wrote the file; a key missing for a built-in provider is only worth a warning.
    """
    for name, provider in file.providers.items():
        for pool in provider.pools:
            yield _check_key(name, provider, pool, environ, Verdict.FAILED if declared else Verdict.WARNING)
            yield Check("limits", Verdict.OK, f"{name}:{pool.name} ({', '.join(pool.models)}): {_limits(pool)}")


def _check_key(
    name: str, provider: ProviderSpec, pool: PoolSpec, environ: Mapping[str, str], if_missing: Verdict
) -> Check:
    from batch_llm.config.provider_kinds import kind_named
    from batch_llm.config.providers_file import api_key_of

    try:
        key = api_key_of(name, provider, pool, environ)
    except ConfigurationError as error:
        return Check("key", if_missing, f"{name}:{pool.name}: {error}")
    reference = pool.api_key or provider.api_key
    found = kind_named(provider.kind).without_key if key is None else f"{reference} is set"
    return Check("key", Verdict.OK, f"{name}:{pool.name}: {found}")


def _limits(pool: PoolSpec) -> str:
    if isinstance(pool.limits, str):
        return "unknown (starts low and adapts)"
    given = pool.limits.model_dump(exclude_none=True)
    return ", ".join(f"{number(value)} {name.replace('_', ' ')}" for name, value in given.items())


def check_journal(settings: Settings) -> Iterator[Check]:
    """The journal's folder and the space on its disk; and the store, when machines share one."""
    if settings.journal_url is not None:
        yield check_store(settings, settings.journal_url)
    runs = settings.runs_dir
    yield check_disk(runs, shutil.disk_usage(_nearest(runs)).free)


def check_disk(folder: Path, free_bytes: int) -> Check:
    """A full disk stops a run: below 1 GiB is worth a warning."""
    found = f"{folder}: {free_bytes / GIB:,.1f} GiB free"
    if free_bytes < LEAST_FREE_BYTES:
        return Check("journal", Verdict.WARNING, f"{found}; raw answers are kept there, make room")
    return Check("journal", Verdict.OK, found)


def check_encodings() -> Check:
    """Whether tokens can be counted exactly without a download."""
    from batch_llm.tokens import Tokens

    missing = [model for model in TOKEN_MODELS if not Tokens(model).exact]
    if missing:
        return Check("encodings", Verdict.WARNING, f"not at hand for {', '.join(missing)}: tokens are estimated there")
    return Check("encodings", Verdict.OK, "at hand: tokens of OpenAI's models are counted exactly")


def _nearest(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
