"""A real headless Chromium in front of a real `dagster dev`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from batch_llm.job.load import load_job
from batch_llm.wiring import planner
from tests.integration.dagster_lab import Account, CodeLocation
from tests.integration.dagster_server import DagsterServer

CHROMIUM = "/usr/bin/chromium"  # Debian's
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000  # a page may take long to draw on a busy machine; Playwright's own `expect` gives up after 5 s
IMAGES = Path(__file__).parents[3] / "docs" / "images"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="keep the screenshots in docs/images")


@pytest.fixture(scope="session")
def chromium(skip_or_fail: Callable[[str], NoReturn]) -> str:
    if shutil.which(CHROMIUM) is None:
        skip_or_fail(f"{CHROMIUM} is not there; apt-get install chromium")
    return CHROMIUM


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with Account(latency_median_s=0.05) as opened:
        yield opened


@pytest.fixture(scope="module")
def location(account: Account, tmp_path_factory: pytest.TempPathFactory) -> CodeLocation:
    """A job whose run is planned and not asked for: three slices to click on."""
    made = CodeLocation(tmp_path_factory.mktemp("location"), account.base_url)
    made.limits({"requests_per_minute": 3000})
    made.table("input.parquet", 60)
    planner(made.settings, load_job(made.job(slices={"rows": 20}, samples="rows"))).start()
    return made


@pytest.fixture(scope="module")
def server(chromium: str, location: CodeLocation) -> Iterator[DagsterServer]:
    with DagsterServer(location) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=chromium,
            headless=True,
            args=FLAGS,
            viewport={"width": 1440, "height": 900},
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()


@pytest.fixture
def picture(request: pytest.FixtureRequest, page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Take a screenshot; kept in docs/images only with --screenshots."""
    folder = IMAGES if request.config.getoption("--screenshots", default=False) else tmp_path

    def _picture(name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"ui-{name}.png")

    return _picture
