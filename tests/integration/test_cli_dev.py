"""`batch-llm dev` starts the real Dagster, and stops all of it."""

from __future__ import annotations

import signal
import urllib.request
from pathlib import Path

import pytest

from batch_llm.cli.dev import free_port
from tests.integration.cli_lab import CommandLine, ended
from tests.integration.lab import Lab

pytestmark = pytest.mark.timeout(400)


def processes_of(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def children_of(pid: int) -> list[int]:
    """A process's own children; the child that `dev` starts leads a session."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def fetched(url: str) -> bytes:
    """A page."""
    with urllib.request.urlopen(url) as answer:
        content: bytes = answer.read()
    return content


async def test_dev_serves_the_ui_and_leaves_nothing_behind(lab: Lab, root: Path) -> None:
    """From a folder below the root, whose path has a space."""
    checkout = lab.folder / "a checkout"
    (checkout / "jobs").mkdir(parents=True)
    (checkout / "definitions.py").write_text("import dagster as dg\n\ndefs = dg.Definitions()\n")
    for name in ("workspace.yaml", "dagster.yaml"):
        (checkout / name).write_text((root / name).read_text())
    cli = CommandLine(lab)
    lab.folder = checkout / "jobs"
    port = free_port(3950)
    process = await cli.start("dev", "--port", str(port), "--no-open")
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line == f"batch_llm UI: http://127.0.0.1:{port}\n"
        assert b"dagster_version" in fetched(f"http://127.0.0.1:{port}/server_info")
        (session,) = children_of(process.pid)
        assert len(processes_of(session)) >= 4  # dev, webserver, daemon, code server
    finally:
        process.send_signal(signal.SIGINT)
        said = await ended(process)
    assert said.code == 0, said.err
    assert processes_of(session) == []
    assert (checkout / ".batch_llm" / "dagster").is_dir()  # DAGSTER_HOME was the root
    assert not (lab.folder / ".batch_llm").exists()
