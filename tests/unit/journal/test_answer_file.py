"""What an index does that is damaged, gone, unwritable or locked: it says so, and the run goes on."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch_llm.errors import JournalError
from batch_llm.journal import answer_file
from batch_llm.journal.answer_index import Answered, AnswerIndex, Found, Mine, Slice, Theirs

A, B = Slice("run-a", 0), Slice("run-b", 0)
ONE, TWO = f"{1:016x}{0:016x}", f"{2:016x}{0:016x}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "answers.sqlite"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def opened(path: Path, warnings: list[str]) -> Iterator[Callable[[], AnswerIndex]]:
    made: list[AnswerIndex] = []

    def open_one() -> AnswerIndex:
        made.append(AnswerIndex(path, "alice", warnings.append))
        return made[-1]

    yield open_one
    for index in made:
        index.close()


Opened = Callable[[], AnswerIndex]


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_and_begun_anew(
    opened: Opened, path: Path, warnings: list[str], content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    index = opened()
    assert index.claim([ONE], A) == [Mine()]
    index.answered([Answered(ONE, A, 4)])
    assert opened().claim([ONE], B) == [Found(A, 4)]
    assert len(warnings) == (1 if content else 0)  # an empty file is a new one
    assert path.with_name("answers.sqlite.damaged").exists() is bool(content)
    index.forget("never")
    assert not path.with_name("answers.sqlite.damaged").exists()


def test_a_file_that_is_damaged_while_it_is_open_is_left_by_every_process(
    opened: Opened, path: Path, warnings: list[str]
) -> None:
    index, other = opened(), opened()
    index.answered([Answered(f"{number:016x}{0:016x}", A, number) for number in range(5000)])
    assert other.claim([ONE], B) == [Found(A, 1)]
    index.close()
    other.close()
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(b"\xa5" * 30_000)
    assert index.claim([ONE], A) == [Mine()]
    assert isinstance(other.claim([ONE], B)[0], Theirs)
    assert len(warnings) == 1, warnings
    assert "set aside" in warnings[0]


def test_a_file_that_was_replaced_is_noticed_by_who_has_the_old_one_open(opened: Opened, path: Path) -> None:
    index, other = opened(), opened()
    index.claim([ONE], A)
    assert isinstance(other.claim([ONE], B)[0], Theirs)
    for file in path.parent.iterdir():
        file.unlink()
    assert other.claim([ONE], B) == [Mine()]
    assert isinstance(index.claim([ONE], A)[0], Theirs)
    index.close()  # of the old file's log nothing may be taken away from the new one
    assert isinstance(opened().claim([ONE], Slice("run-c", 0))[0], Theirs)


@pytest.mark.parametrize("layout", [99, -1])
def test_a_file_of_another_version_is_set_aside(opened: Opened, path: Path, warnings: list[str], layout: int) -> None:
    opened().close()
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {layout}")
    connection.close()
    assert opened().claim([ONE], A) == [Mine()]
    assert f"its layout is {layout}" in warnings[0]


def test_tables_that_are_missing_are_damage(opened: Opened, path: Path, warnings: list[str]) -> None:
    index = opened()
    index.claim([ONE], A)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE claims_1")
    connection.close()
    assert index.claim([ONE], A) == [Mine()]
    assert len(warnings) == 1


def test_an_index_that_cannot_be_written_turns_itself_off_and_says_so_once(
    opened: Opened, path: Path, warnings: list[str]
) -> None:
    path.mkdir(parents=True)  # a folder stands in its place
    index = opened()
    assert index.claim([ONE, TWO, ONE], A) == [Mine()] * 3
    index.answered([Answered(ONE, A, 1)])
    index.release(A)
    assert index.take_over(ONE, Theirs(B, 1), A)
    assert index.wrong(ONE, Found(B, 1), A)
    assert index.off_because is not None
    assert len(warnings) == 1
    with pytest.raises(JournalError, match=r"answers\.sqlite"):
        index.forget("run-a")
    with pytest.raises(JournalError, match=r"answers\.sqlite"):
        index.stats()


def test_a_lock_that_is_never_given_back_turns_it_off(
    opened: Opened, path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_file, "WAIT_S", 0.01)
    index = opened()
    index.claim([ONE], A)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert index.claim([ONE], A) == [Mine()]
    assert "another process had it locked" in warnings[0]
    holder.execute("ROLLBACK")
    holder.close()
    assert index.claim([ONE], A) == [Mine()], "off for good: half a memory is worse than none"


def test_threads_share_it(opened: Opened) -> None:
    index = opened()
    hashes = [f"{number:016x}{0:016x}" for number in range(500)]
    mine: list[int] = []

    def work(number: int) -> None:
        owner = Slice("run", number)
        for start in range(0, 500, 50):
            said = index.claim(hashes[start : start + 50], owner)
            mine.append(sum(isinstance(one, Mine) for one in said))
            index.answered(
                [Answered(h, owner, 1) for h, one in zip(hashes[start:], said, strict=False) if one == Mine()]
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(mine) == 500
    assert index.stats().answers == 500


def test_a_child_process_uses_nothing_of_its_parents(opened: Opened) -> None:
    index = opened()
    index.claim([ONE], A)
    child = os.fork()
    if child == 0:
        said = index.claim([ONE, TWO], B)
        index.answered([Answered(TWO, B, 9)])
        os._exit(0 if isinstance(said[0], Theirs) and said[1] == Mine() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert index.claim([TWO], A) == [Found(B, 9)]


def test_a_run_killed_while_it_is_forgotten_can_be_found_by_nobody(
    opened: Opened, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened()
    index.answered([Answered(ONE, A, 1)])

    def killed(connection: sqlite3.Connection) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("batch_llm.journal.answer_index.erase_some", killed)
    with pytest.raises(KeyboardInterrupt):
        index.forget("run-a")
    monkeypatch.undo()
    assert opened().claim([ONE], B) == [Mine()]
    index.forget("run-b")
    assert index.stats().answers == 0
    assert b"run-a" not in path.read_bytes()
