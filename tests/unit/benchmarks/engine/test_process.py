"""A measured process tells its exit, its own use, and nothing of the benchmark's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.engine.process import environment, measured


def test_exit_output_and_use_of_a_process(tmp_path: Path) -> None:
    code = "import sys; print('out'); print('error', file=sys.stderr); sum(range(10**6)); sys.exit(3)"
    ended = measured([sys.executable, "-I", "-S", "-c", code], environment(), tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out\n", "error\n")
    assert ended.cpu_s > 0


def test_the_peak_is_not_that_of_the_process_that_measures(tmp_path: Path) -> None:
    ballast = bytearray(200_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])  # touched, so that it is resident
    ended = measured([sys.executable, "-I", "-S", "-c", "pass"], environment(), tmp_path)
    assert ended.max_rss_bytes < 100_000_000 < len(ballast)


def test_what_a_command_leaves_behind_is_counted_apart(tmp_path: Path) -> None:
    work = "import time; until = time.process_time() + 0.3\nwhile time.process_time() < until: pass"
    code = f"import os, sys\nif os.fork() == 0:\n    exec({work!r})\n    os._exit(0)\nos._exit(0)"
    ended = measured([sys.executable, "-I", "-S", "-c", code], environment(), tmp_path)
    assert ended.left_behind_cpu_s >= 0.3 > ended.cpu_s


def test_no_key_and_no_setting_of_ours_reaches_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "SOME_API_KEY", "BATCH_LLM_REDIS_URL"):
        monkeypatch.setenv(name, "x")
    found = environment(BATCH_LLM_HOME="here")
    assert {name: found.get(name) for name in ("OPENAI_API_KEY", "SOME_API_KEY", "BATCH_LLM_REDIS_URL")} == {
        "OPENAI_API_KEY": None,
        "SOME_API_KEY": None,
        "BATCH_LLM_REDIS_URL": None,
    }
    assert found["BATCH_LLM_HOME"] == "here"
