"""The Python door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import batch_llm
from batch_llm.errors import OutputError
from tests.integration.lab import SCHEMA, Lab


def test_a_job_from_python_gives_a_frame(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same keys as the job file; the frame holds every row, missing numbers missing."""
    lab.table(25)
    monkeypatch.chdir(lab.folder)
    monkeypatch.setenv("BATCH_LLM_HOME", str(lab.folder / "home"))
    job = {
        "name": "from_python",
        "input": {"table": "input.parquet", "key": ["id"]},
        "prompt": {"user": "{{ text }}"},
        "model": "simulator/small",
        "output": {"table": "graded", "schema": SCHEMA},
    }
    with pytest.raises(OutputError):
        batch_llm.output(job)
    summary = batch_llm.run(job, limit=20)
    assert (summary.ok, summary.pending) == (20, 5)
    frame = batch_llm.output(batch_llm.declare(job, lab.folder))
    assert isinstance(frame, pd.DataFrame) and len(frame) == 25
    assert frame["score"].isna().sum() == 5 and frame["llm_cost_usd"].isna().all()


def test_importing_the_package_is_light(root: Path) -> None:
    """Nothing heavy comes with the name."""
    code = (
        "import sys, batch_llm; print(sorted({'pydantic', 'duckdb', 'pyarrow', 'pandas', 'openai'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert found.stdout.strip() == "[]"
    assert all(hasattr(batch_llm, name) for name in batch_llm.__all__)
