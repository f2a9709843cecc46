"""Locks between processes: one holder, no leftovers, nothing to clean up after a kill."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from batch_llm.journal.locks import is_locked, locked, passing_lock

HOLDER = """
import sys
from pathlib import Path
from batch_llm.journal.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_passing_lock_lets_one_in_and_takes_its_file_along(tmp_path: Path) -> None:
    """Whoever waited for a file that its holder removed does not believe that it has the lock."""
    path = tmp_path / "folder" / "job.starting"
    inside: list[int] = []
    most = []

    def enter() -> None:
        for _ in range(50):
            with passing_lock(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200 and max(most) == 1
    assert list(path.parent.iterdir()) == []


def test_many_share_and_one_alone_excludes(tmp_path: Path) -> None:
    """Shared holders see each other in; nobody gets it alone beside them."""
    path = tmp_path / "lock"
    assert not is_locked(path)
    with locked(path, shared=True), locked(path, shared=True, wait=False):
        assert is_locked(path)
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
    assert not is_locked(path)
    with locked(path), pytest.raises(BlockingIOError), locked(path, shared=True, wait=False):
        pass


def test_a_lock_on_what_was_removed_meanwhile_is_none(tmp_path: Path) -> None:
    """Somebody waits for a run's lock while its holder erases the run."""
    folder = tmp_path / "run"
    folder.mkdir()
    ended: list[type[BaseException] | None] = []

    def wait() -> None:
        try:
            with locked(folder / "lock"):
                ended.append(None)
        except FileNotFoundError as error:
            ended.append(type(error))

    waiting = threading.Thread(target=wait)
    with locked(folder / "lock"):
        waiting.start()
        while waiting.is_alive() and not _waits(folder / "lock"):
            pass
        (folder / "lock").unlink()
        folder.rmdir()
    waiting.join()
    assert ended == [FileNotFoundError]
    with pytest.raises(FileNotFoundError), locked(folder / "lock"):
        pass


def _waits(path: Path) -> bool:
    """Whether somebody stands in line for the lock, as the kernel tells."""
    inode = f":{path.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    """kill -9 needs no cleaning up."""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert is_locked(path)
        holder.kill()
    assert not is_locked(path)
