"""Starting and stopping the development server; Dagster itself runs in the integration tests."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.dev import DevServer, dagster_environment, find_checkout, free_port
from batch_llm.errors import BatchLLMError, ConfigurationError


def test_the_checkout_is_found_from_any_folder_in_it(tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert find_checkout(tmp_path / "a" / "b") == tmp_path


def test_without_a_checkout_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match="needs a checkout"):
        find_checkout(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli("dev").code == 2


def test_a_busy_port_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert port < free_port(port) <= port + 99


def test_the_root_is_dagsters_home_unless_set() -> None:
    made = dagster_environment(Path("/checkout"), {"PATH": "/usr/bin", "A": "1"})
    assert made["DAGSTER_HOME"] == "/checkout"
    assert made["A"] == "1"
    assert made["DAGSTER_DISABLE_TELEMETRY"]
    assert made["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert dagster_environment(Path("/checkout"), {"DAGSTER_HOME": "/mine"})["DAGSTER_HOME"] == "/mine"


# stands in for Dagster: a module of that name whose children would outlive it
ORPHANING = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(str(child.pid))
try:
    time.sleep(600)
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
"""


def server_running(root: Path, program: str) -> DevServer:
    (root / "dagster.py").write_text(program)
    return DevServer(root, free_port(3900), {**os.environ, "PYTHONPATH": str(root), "PYTHONSAFEPATH": ""})


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_nothing_outlives_it_even_when_the_shell_ignores_signals(tmp_path: Path) -> None:
    """A child of `command &` in a script inherits an ignored SIGINT; ours gets it all the same."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with server_running(tmp_path, ORPHANING):
            while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
                os.sched_yield()
            pid = int((tmp_path / "pids").read_text())
        assert (tmp_path / "interrupted").exists()
        while alive(pid):
            os.sched_yield()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_server_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(BatchLLMError, match="ended with code 7"),
        server_running(tmp_path, "raise SystemExit(7)") as server,
    ):
        server.wait_until_up()


def test_ctrl_c_while_it_starts_ends_the_wait(tmp_path: Path) -> None:
    with server_running(tmp_path, ORPHANING) as server:
        os.kill(os.getpid(), signal.SIGINT)
        server.wait_until_up()
        assert server.stay() == 0
