"""What all tests share: a clean environment, a home of their own, the shared tables, and how a test is left out.

Belongs here: fixtures of every folder. Not here: fakes (they ship with the product), fixtures of one folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from tests.search import FACTOR

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

# provider keys and our own settings must not reach a test; the same keys as in scripts/without_keys. Hundreds of tests
# start a process: each would compile all it imports where bytecode may not be kept
_DROPPED = re.compile(
    r".*_API_KEY|(OPENAI|AZURE_OPENAI|ANTHROPIC)_.*|GOOGLE_APPLICATION_CREDENTIALS|DAGSTER_HOME"
    r"|BATCH_LLM_(?!REQUIRE_ALL).*|PYTHONDONTWRITEBYTECODE"
)

# what leads the one test that asks for it to a real project of BigQuery (tests/acceptance/test_bigquery_real.py)
REAL_BIGQUERY = "BATCH_LLM_TEST_BIGQUERY"
_REAL_ACCESS = ("GOOGLE_APPLICATION_CREDENTIALS", "BATCH_LLM_BIGQUERY_PROJECT", "BATCH_LLM_BIGQUERY_LOCATION")
_real_bigquery: dict[str, str] = {}

settings.register_profile("default", deadline=None)  # a shared machine may be slow; that is no failure
# a gate judges the commit alone, so there the examples are the same each time; `make search` looks for new ones
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=100 * max(1, FACTOR), print_blob=True)


def pytest_configure() -> None:
    if os.environ.get(REAL_BIGQUERY):
        _real_bigquery["BATCH_LLM_WAREHOUSE"] = f"bigquery:{os.environ[REAL_BIGQUERY]}"
        _real_bigquery.update({name: os.environ[name] for name in _REAL_ACCESS if os.environ.get(name)})
    for name in list(os.environ):
        if _DROPPED.fullmatch(name):
            del os.environ[name]
    settings.load_profile("search" if FACTOR > 1 else "ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of this test's own, which BATCH_LLM_HOME points to."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("BATCH_LLM_HOME", str(path))
    return path


@pytest.fixture(scope="session")
def real_bigquery() -> dict[str, str]:
    """The variables that lead to a real project of BigQuery; none when nobody asked for it."""
    return dict(_real_bigquery)


@pytest.fixture(scope="session")
def skip_or_fail() -> Callable[[str], NoReturn]:
    """Leave a test out for a reason (something is not installed), or fail where nothing may be left out."""

    def _skip_or_fail(reason: str) -> NoReturn:
        if os.environ.get("BATCH_LLM_REQUIRE_ALL"):
            pytest.fail(f"not left out, because BATCH_LLM_REQUIRE_ALL is set: {reason}")
        pytest.skip(reason)

    return _skip_or_fail


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of a table in ../shared/data by its file name; skips where the folder is absent, always."""

    def _path(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_file():
            pytest.skip(f"../shared/data/{name} is not here")
        return path

    return _path
