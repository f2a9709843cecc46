"""kill -9 between any two statements of publish and promote."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from batch_llm.warehouse.duckdb.promotion import replacement
from tests.contract.warehouse_lab import KEY, DuckDBLab, publish, stored

ROOT = Path(__file__).parents[4]

# the process dies when it asks for the statement, or before it puts the new file in the old one's place
DIES = """
import os, signal, sys
from pathlib import Path
from batch_llm.warehouse.duckdb import promotion, publishing
from tests.contract.warehouse_lab import *
home, at, output = sys.argv[1:]
def dies(name, **parts):
    if name == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return statement(name, **parts)
statement = promotion.statement
publishing.statement = promotion.statement = dies
if at == "os.replace":
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
warehouse = DuckDBLab(Path(home)).warehouse
if at in ("delete_slice", "insert_slice"):
    publish(warehouse, "r1", 0, {"a": "ok", "b": "failed"}, "new")
warehouse.promote("r2", output, KEY, "replace")
"""


def test_a_kill_before_any_statement_leaves_what_was_there(tmp_path: Path) -> None:
    """Slice, output table and output file are as before; the same call afterwards succeeds."""
    steps = ("delete_slice", "insert_slice", "delete_what_gives_way", "insert_missing_keys", "os.replace")
    children = []
    for step in steps:
        lab = DuckDBLab(tmp_path / step)
        output = str(lab.home / "tone.parquet") if step == "os.replace" else "tone"
        publish(lab.warehouse, "r1", 0, {"a": "ok", "gone": "ok"}, "old")
        lab.warehouse.promote("r1", output, KEY, "upsert")
        publish(lab.warehouse, "r2", 0, {"a": "ok", "come": "ok"}, "new")
        command = [sys.executable, "-c", DIES, str(lab.home), step, output]
        children.append((lab, output, subprocess.Popen(command, cwd=ROOT)))
    before = {"a": ("ok", "old"), "gone": ("ok", "old")}
    for lab, output, child in children:
        assert child.wait() == -signal.SIGKILL
        assert stored(lab.warehouse, "run:r1") == before
        assert stored(lab.warehouse, output) == before
        lab.warehouse.promote("r2", output, KEY, "replace")
        assert stored(lab.warehouse, output) == {"a": ("ok", "new"), "come": ("ok", "new")}
        assert not list(lab.home.glob(".tone*"))  # nor is anything left of the promotion that was killed


def test_a_promotion_under_way_keeps_its_file(tmp_path: Path) -> None:
    """Another process's, into the same output: only what nobody writes any more is removed."""
    output = tmp_path / "[tone].parquet"
    left = tmp_path / ".[tone].parquet.partial-1"
    left.touch()
    with replacement(output) as theirs:
        assert not left.exists()
        with replacement(output.with_name("other.parquet")), replacement(output, "2") as mine:
            assert theirs.exists() and mine.exists() and theirs != mine
        assert theirs.exists() and not mine.exists()
    assert list(tmp_path.iterdir()) == []
