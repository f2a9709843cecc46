"""The answer index under many processes that ask the same, and are killed in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from batch_llm.journal.answer_index import AnswerIndex, Found, Slice

HASHES = 3_000
WORKER = """
import fcntl, json, os, random, sys
from pathlib import Path
from batch_llm.journal import answer_entries, answer_index
from batch_llm.journal.answer_index import Answered, AnswerIndex, Found, Mine, Slice, Theirs

folder, number, hashes, dies = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "dies"
answer_entries.TAIL_ROWS = 200  # merged all the time
index = AnswerIndex(folder / "answers.sqlite", "alice", lambda text: sys.exit("warned: " + text))
me = Slice("run", number)
lock = open(folder / f"{number}.lock", "w")  # as a slice's journal: who has it lives
fcntl.flock(lock, fcntl.LOCK_EX)
asked = os.open(folder / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def is_dead(owner):
    with open(folder / f"{owner.number}.lock", "r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

def ask(these):
    for one in these:
        os.write(asked, json.dumps([one, number]).encode() + b"\\n")
    if dies and random.random() < 0.2:
        print("asking", flush=True)
        sys.stdin.read()  # until it is killed
    index.answered([Answered(one, me, int(one[:16], 16)) for one in these])

todo = [f"{n:016x}{0:016x}" for n in range(hashes)]
random.seed(number)
random.shuffle(todo)
while todo:
    batch, todo = todo[:64], todo[64:]
    mine = []
    for one, said in zip(batch, index.claim(batch, me)):
        if isinstance(said, Mine):
            mine.append(one)
        elif isinstance(said, Theirs):
            if is_dead(said.owner) and index.take_over(one, said, me):
                mine.append(one)
            else:
                todo.append(one)
        else:
            assert said.place == int(one[:16], 16), "a wrong answer"
    ask(mine)
index.release(me)
index.close()
"""


def start(folder: Path, number: int, *, dies: bool) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", WORKER, str(folder), str(number), str(HASHES), "dies" if dies else "lives"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def asked_by(folder: Path) -> dict[str, list[int]]:
    asked: dict[str, list[int]] = {}
    for line in (folder / "asked").read_text().splitlines():
        request_hash, number = json.loads(line)
        asked.setdefault(request_hash, []).append(number)
    return asked


def test_each_request_is_asked_once_and_the_living_take_over_from_the_killed(tmp_path: Path) -> None:
    """Three processes are killed with claims in hand; what they had asked is asked once more, by one survivor."""
    doomed = [start(tmp_path, number, dies=True) for number in range(3)]
    living = [start(tmp_path, number, dies=False) for number in range(3, 6)]
    for process in doomed:
        assert process.stdout is not None
        process.stdout.readline()  # it holds claims now, or has ended before its dice fell that way
        process.send_signal(signal.SIGKILL)
        process.communicate()
    for process in living:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()

    asked = asked_by(tmp_path)
    assert len(asked) == HASHES
    dead = set(range(3))
    for request_hash, numbers in asked.items():
        survivors = [number for number in numbers if number not in dead]
        assert len(survivors) <= 1, (request_hash, numbers)
        assert len(numbers) <= 1 + len(dead)
    twice = Counter(len(numbers) for numbers in asked.values())
    assert sum(times for length, times in twice.items() if length > 1) <= 3 * 64, "only what was in flight at the kills"

    index = AnswerIndex(tmp_path / "answers.sqlite", "alice", lambda text: None)
    hashes = list(asked)
    found = index.claim(hashes, Slice("later", 0))
    assert all(isinstance(one, Found) and one.place == int(h[:16], 16) for h, one in zip(hashes, found, strict=True))
    assert index.stats().claims == 0
    index.close()


def test_a_process_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """Also in the middle of a merge: the next process finds right answers only, and nothing is set aside."""
    for moment in range(6):
        process = start(tmp_path, moment, dies=False)
        while not (tmp_path / "asked").exists() or os.path.getsize(tmp_path / "asked") < 5_000 * (moment + 1):
            if process.poll() is not None:
                break
            time.sleep(0.002)
        process.kill()
        process.communicate()
    last = start(tmp_path, 99, dies=False)
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors.decode()
    assert not (tmp_path / "answers.sqlite.damaged").exists()
