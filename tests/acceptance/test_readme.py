"""The README's commands, as written, in a fresh checkout whose path has a space.

Belongs here: what a newcomer types first. Not here: clicking in the UI (tests/integration/browser).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

pytestmark = pytest.mark.timeout(900)

README = Path(__file__).parents[2] / "README.md"
Found = TypeVar("Found")
START_S = 240  # a loaded machine takes a minute to start Dagster

# commands of the README that `test_the_other_commands_work` does not run, and why
ELSEWHERE = {
    "make demo": "test_the_demo_works_twice",
    "make dev": "test_dev_shows_what_the_demo_did",
    "make test": "this very run",
}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str
    wall_s: float


@dataclass(frozen=True)
class Checkout:
    """A copy of the source, and a newcomer's environment."""

    folder: Path
    environment: dict[str, str]

    def run(self, command: str) -> Done:
        begin = time.monotonic()
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, time.monotonic() - begin)


def commands() -> list[str]:
    """Every command of the README's shell blocks, without its comment."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def checkout(root: Path, tmp_path_factory: pytest.TempPathFactory, skip_or_fail: Callable[[str], NoReturn]) -> Checkout:
    """What `git clone` would give, plus what is not committed yet."""
    if not shutil.which("git") or not (root / ".git").exists():
        skip_or_fail("this is not a git checkout")
    folder = tmp_path_factory.mktemp("a newcomer's") / "batch llm"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    ours = re.compile(r"BATCH_LLM_.*|DAGSTER_.*|PYTEST_.*|VIRTUAL_ENV|PYTHON.*|UV_.*|MAKE.*|MFLAGS|COLUMNS|CI")
    environment = {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}
    return Checkout(folder, environment)


@pytest.fixture(scope="module")
def demo(checkout: Checkout) -> tuple[Done, Done]:
    """`make demo`, twice."""
    return checkout.run("make demo"), checkout.run("make demo")


def test_the_demo_works_twice(demo: tuple[Done, Done], checkout: Checkout) -> None:
    """Exit 0 both times; one output row per input row, all ok; it says that the provider is a simulator."""
    first, second = demo
    print(f"make demo: {first.wall_s:.0f} s with set-up, then {second.wall_s:.0f} s")
    assert first.code == 0, first.output
    assert second.code == 0, second.output
    assert "simulator" in first.output
    rows = checkout.run(".venv/bin/batch-llm status trading_sessions --json")
    assert rows.code == 0, rows.output
    assert '"ok":418' in rows.output.replace(" ", "")


def test_the_other_commands_work(demo: tuple[Done, Done], checkout: Checkout) -> None:
    """Every other command of the README exits 0 after the demo, in the README's order."""
    assert set(ELSEWHERE) <= set(commands()), "the README no longer shows a command that is tested here"
    for command in commands():
        if command not in ELSEWHERE:
            done = checkout.run(command)
            assert done.code == 0, f"{command}\n{done.output}"
    assert len((checkout.folder / "trading_sessions.csv").read_text(encoding="utf-8").splitlines()) == 418 + 1


def test_dev_shows_what_the_demo_did(demo: tuple[Done, Done], checkout: Checkout) -> None:
    """`make dev` prints the UI's address; the demo's slices stand there, every one a materialized partition."""
    with started(checkout, "make dev") as address:
        assert wait_for(lambda: all_materialized(address, ["trading_sessions", "enriched_slices"])) >= 7


@contextmanager
def started(checkout: Checkout, command: str) -> Iterator[str]:
    """Start a command that runs until it is stopped; the address it printed, then stop it with Ctrl-C."""
    with (checkout.folder / "dev.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, shell=True, cwd=checkout.folder, env=checkout.environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield wait_for(lambda: printed_address(process, Path(log.name)))
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def printed_address(process: subprocess.Popen[bytes], log: Path) -> str | None:
    text = log.read_text(encoding="utf-8", errors="replace")
    assert process.poll() is None, text
    found = re.search(r"http://[\w.\[\]-]+:\d+", text)
    return found[0] if found else None


def all_materialized(address: str, asset: list[str]) -> int | None:
    """How many partitions an asset has, once every one is materialized; None until then."""
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
      ... on AssetNode { partitionStats { numPartitions numMaterialized } } } }"""
    body = json.dumps({"query": query, "variables": {"key": {"path": asset}}}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            node: dict[str, Any] = json.load(response)["data"]["assetNodeOrError"]
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    stats = node.get("partitionStats") or {"numPartitions": 0, "numMaterialized": 0}
    return stats["numPartitions"] if 0 < stats["numPartitions"] == stats["numMaterialized"] else None


def wait_for(look: Callable[[], Found | None]) -> Found:
    """What `look` returns as soon as it is not None; fails after START_S."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.5)
    pytest.fail(f"nothing after {START_S} s")
