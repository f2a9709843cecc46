"""Opening the DuckDB file: patience, turns, transactions, what spills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.duckdb.database import Database, transaction

HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_held_file_is_waited_for(tmp_path: Path) -> None:
    """With longer and longer pauses; it opens as soon as the other process is gone."""
    path, pauses_s = tmp_path / "w.duckdb", []
    with held(path) as child:

        def sleep(delay_s: float) -> None:
            pauses_s.append(delay_s)
            if len(pauses_s) == 7:
                child.kill()
                child.wait()

        with Database(path, "100MB", sleep=sleep).write() as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert pauses_s == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_file_that_stays_held_names_its_holder(tmp_path: Path) -> None:
    """And what to do; reading and writing alike, and nothing is left behind."""
    path = tmp_path / "w.duckdb"
    with held(path) as child:
        database = Database(path, "100MB", lock_wait_s=2.0, sleep=lambda _: None)
        for opening in (database.read, database.write):
            with pytest.raises(WarehouseError, match=rf"held by another process .*PID {child.pid}\).*end that program"):
                opening().__enter__()
    assert list(database.temporary.iterdir()) == []


def test_a_long_wait_is_told_once_with_who_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "w.duckdb"
    with held(path) as child:
        for wait_s, told in ((2.0, 0), (20.0, 1)):
            with pytest.raises(WarehouseError):
                Database(path, "100MB", lock_wait_s=wait_s, sleep=lambda _: None).read().__enter__()
            assert [f"PID {child.pid}" in record.message for record in caplog.records] == [True] * told


def test_a_file_that_another_process_is_just_making_is_waited_for(tmp_path: Path) -> None:
    """It is there, empty, for a moment before its maker locks it; one that stays so is told as what it is."""
    path, pauses_s = tmp_path / "w.duckdb", []
    path.touch()

    def sleep(delay_s: float) -> None:
        pauses_s.append(delay_s)
        if len(pauses_s) == 2:
            path.unlink()
            duckdb.connect(str(path)).close()

    with Database(path, "100MB", sleep=sleep).read() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert len(pauses_s) == 2
    path.write_bytes(b"")
    with pytest.raises(WarehouseError, match="not a valid"):
        Database(path, "100MB", sleep=lambda _: None).write().__enter__()


def test_reading_what_is_not_there_makes_no_file(tmp_path: Path) -> None:
    with Database(tmp_path / "home" / "w.duckdb", "100MB").read() as connection:
        assert connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(0,)]
    assert not (tmp_path / "home" / "w.duckdb").exists()


def test_an_open_connection_of_this_process_is_no_obstacle(tmp_path: Path) -> None:
    """A notebook that looks into the warehouse does not stop a run in it."""
    database = Database(tmp_path / "w.duckdb", "100MB")
    with duckdb.connect(str(tmp_path / "w.duckdb")) as own:
        own.execute("CREATE TABLE t AS SELECT 1 AS a").fetchall()
        with database.read() as connection:
            assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
        with database.write() as connection:
            connection.execute("INSERT INTO t VALUES (2)").fetchall()
        assert own.execute("SELECT count(*) FROM t").fetchall() == [(2,)]


def test_a_file_that_is_none_of_duckdbs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_bytes(b"x" * 8192)
    with pytest.raises(WarehouseError, match=r"w\.duckdb.*not a valid DuckDB"):
        Database(path, "100MB").write().__enter__()


def test_times_are_utc_and_nothing_is_printed(tmp_path: Path) -> None:
    with Database(tmp_path / "w.duckdb", "100MB").write() as connection:
        shown = "SELECT current_setting('TimeZone'), current_setting('enable_progress_bar')"
        assert connection.execute(shown).fetchall() == [("UTC", False)]


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    """Also when what fails is not the database."""
    database = Database(tmp_path / "w.duckdb", "100MB")

    def fail(statement: str | None) -> None:
        with database.write() as connection, transaction(connection):
            connection.execute("CREATE TABLE t (a INTEGER)").fetchall()
            connection.execute(statement).fetchall() if statement else {}["absent"]

    with pytest.raises(WarehouseError, match="absent"):
        fail("SELECT * FROM absent")
    with pytest.raises(KeyError):
        fail(None)
    with database.write() as connection:
        with transaction(connection):
            connection.execute("CREATE TABLE t (a INTEGER)").fetchall()
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]


def test_what_killed_processes_spilled_is_swept_after_a_day(tmp_path: Path) -> None:
    database = Database(tmp_path / "w.duckdb", "100MB")
    for name in ("old", "young"):
        (database.temporary / name).mkdir(parents=True)
        (database.temporary / name / "block").write_text("spilled")
    (database.temporary / "old.spool").write_text("set aside")
    for name in ("old", "old.spool"):
        os.utime(database.temporary / name, (1, 1))
    with database.temporary_folder() as folder:
        assert sorted(path.name for path in database.temporary.iterdir()) == sorted(["young", folder.name])
    assert [path.name for path in database.temporary.iterdir()] == ["young"]


def test_work_that_needs_more_memory_is_repeated_with_more(tmp_path: Path) -> None:
    """What it had written before is gone, what it writes then is there once."""
    database, limits = Database(tmp_path / "w.duckdb", "512MB"), []
    wide = ", ".join(f"repeat(md5((i * {n})::VARCHAR), 8) AS c{n}" for n in range(60))

    def work(connection: duckdb.DuckDBPyConnection) -> int:
        limits.append(connection.execute("SELECT current_setting('memory_limit')").fetchall()[0][0])
        with transaction(connection):
            connection.execute("CREATE TABLE small AS SELECT 1 AS n").fetchall()
            connection.execute(f"CREATE TABLE large AS SELECT {wide} FROM range(3000) t(i)").fetchall()
        return len(limits)

    assert database.write_lean(work) == len(limits) > 1
    assert limits[:2] == ["19.0 MiB", "45.7 MiB"]
    database.write_lean(lambda connection: connection.execute("INSERT INTO small VALUES (2)").fetchall())
    with database.read() as connection:
        assert connection.execute("SELECT (SELECT sum(n) FROM small), count(*) FROM large").fetchall() == [(3, 3000)]


def test_work_that_fails_otherwise_is_not_repeated(tmp_path: Path) -> None:
    database, tries = Database(tmp_path / "w.duckdb", "512MB"), []

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        tries.append(1)
        connection.execute("SELECT * FROM nowhere").fetchall()

    with pytest.raises(WarehouseError, match="nowhere"):
        database.write_lean(work)
    assert tries == [1]


def test_a_file_whose_opening_needed_room_on_the_disk_can_be_used(tmp_path: Path) -> None:
    """Taking in what a killed process left in the log: 800 MB did. DuckDB then keeps to the folder it has."""

    class Spilled(Database):
        def _open_writable(self) -> duckdb.DuckDBPyConnection:
            connection = super()._open_writable()
            for step in (f"SET temp_directory = '{tmp_path}/log'", "SET memory_limit = '20MB'", "SET threads = 1"):
                connection.execute(step).fetchall()
            connection.execute(
                "CREATE TEMP TABLE spilled AS SELECT md5(i::VARCHAR) AS m FROM range(1000000) t(i) ORDER BY m"
            ).fetchall()
            return connection

    with Spilled(tmp_path / "w.duckdb", "64MB").write() as connection:
        assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


@pytest.mark.parametrize("cause", [duckdb.OutOfMemoryException("x"), OSError("Out of Memory Error: x")])
def test_rows_that_run_out_of_memory_on_their_way_are_lean_work_too(tmp_path: Path, cause: Exception) -> None:
    """Whoever streams them says so in words of his own; another failure is not tried again."""
    database, tries = Database(tmp_path / "w.duckdb", "64MB"), []

    def work(connection: duckdb.DuckDBPyConnection) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise WarehouseError("the output does not fit") from cause
        return "done"

    assert database.write_lean(work) == "done"

    def failing(connection: duckdb.DuckDBPyConnection) -> None:
        tries.append(1)
        raise WarehouseError("no") from OSError("disk full")

    tries.clear()
    with pytest.raises(WarehouseError, match="no"):
        database.write_lean(failing)
    assert len(tries) == 1


def test_a_transaction_of_this_process_is_no_obstacle_to_lean_work(tmp_path: Path) -> None:
    """A notebook that has written something and not committed: the log stays beside the file meanwhile."""
    path = tmp_path / "w.duckdb"
    with duckdb.connect(str(path)) as notebook:
        notebook.execute("CREATE TABLE mine (n INT)")
        notebook.execute("BEGIN").execute("INSERT INTO mine VALUES (1)")
        Database(path, "64MB").write_lean(lambda connection: connection.execute("CREATE TABLE ours (n INT)").fetchall())
        assert notebook.execute("SELECT current_setting('memory_limit')").fetchall() == [("61.0 MiB",)]
        notebook.execute("COMMIT")
    with duckdb.connect(str(path)) as after:
        assert after.execute("SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM ours)").fetchall() == [(1, 0)]
