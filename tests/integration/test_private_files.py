"""Who may read what a run leaves in its home."""

from __future__ import annotations

import os

import duckdb
import pytest

from tests.integration.lab import SCHEMA, Lab


@pytest.mark.parametrize("made_before", [False, True])
async def test_what_rows_and_answers_say_is_for_the_owner_alone(lab: Lab, made_before: bool) -> None:
    """Whatever the umask; a home or a database that was there keeps its mode. The output file is for whom it is for."""
    if made_before:
        lab.settings.home.mkdir()
        lab.settings.home.chmod(0o755)
        duckdb.connect(str(lab.settings.duckdb_path)).close()
        lab.settings.duckdb_path.chmod(0o640)
    before = os.umask(0o022)
    try:
        lab.table(20)
        async with lab.simulator():
            await lab.run()
            await lab.run(lab.job(name="to_file", output={"table": "out.parquet", "schema": SCHEMA}))
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in lab.settings.home.rglob("*") if not path.is_socket()}
    database, home = modes.pop(lab.settings.duckdb_path), lab.settings.home.stat().st_mode & 0o777
    assert (database, home) == ((0o640, 0o755) if made_before else (0o600, 0o700))
    told = {path: mode for path, mode in modes.items() if path.suffix in (".parquet", ".jsonl", ".sqlite")}
    assert set(told.values()) == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert (lab.folder / "out.parquet").stat().st_mode & 0o777 == 0o644
