"""What was learned survives the process, in a small file without text, whoever adds to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batch_llm.journal.learned import MOST_QUESTIONS, LearnedFiles, Question
from batch_llm.learned import AnswerEvidence, Known, Learned, PromptEvidence

AT = datetime(2026, 3, 4, tzinfo=UTC)
QUESTION = Question("tone", "openai/gpt-4.1-mini", [None, "Grade: {{ text }}"], {"temperature": 0}, {"type": "object"})


def answers(count: int, tokens: int = 12) -> Learned:
    learned = Learned(PromptEvidence(), AnswerEvidence())
    for _ in range(count):
        learned.prompts.note(400, 100)
        learned.answers.note(tokens)
    return learned


def test_it_is_there_for_the_next_process_and_grows(tmp_path: Path) -> None:
    LearnedFiles(tmp_path / "learned").add(QUESTION, answers(3), AT)
    LearnedFiles(tmp_path / "learned").add(QUESTION, answers(4), AT)
    assert LearnedFiles(tmp_path / "learned").load(QUESTION) == Known(answers(7))


def test_many_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: LearnedFiles(tmp_path).add(QUESTION, answers(n), AT), range(1, 25)))
    assert LearnedFiles(tmp_path).load(QUESTION).own == answers(sum(range(1, 25)))
    assert [path.name for path in tmp_path.iterdir()] == ["tone.json"]


def test_another_wording_begins_with_a_little_of_the_old_one(tmp_path: Path) -> None:
    files = LearnedFiles(tmp_path)
    files.add(QUESTION, answers(1_000), AT)
    known = files.load(replace(QUESTION, prompt=[None, "Rate: {{ text }}"]))
    assert known.own == Learned()
    assert known.older.answers.good == known.older.prompts.answers == 20
    assert known.older.answers.mean == 12


def test_an_answer_of_another_shape_says_nothing_of_its_length(tmp_path: Path) -> None:
    files = LearnedFiles(tmp_path)
    files.add(QUESTION, answers(1_000), AT)
    known = files.load(replace(QUESTION, schema=None))
    assert known.older.answers.good == 0
    assert known.older.prompts.answers == 20


def test_another_model_says_nothing_at_all(tmp_path: Path) -> None:
    files = LearnedFiles(tmp_path)
    files.add(QUESTION, answers(50), AT)
    assert files.load(replace(QUESTION, model="openai/gpt-4o")) == Known()


def test_a_file_holds_the_latest_questions_and_no_text(tmp_path: Path) -> None:
    files = LearnedFiles(tmp_path)
    for number in range(MOST_QUESTIONS + 3):
        wording = replace(QUESTION, prompt=[None, f"secret wording {number}"])
        files.add(wording, answers(number + 1), AT + timedelta(hours=number))
    text = (tmp_path / "tone.json").read_text()
    assert text.count('"schema"') == MOST_QUESTIONS
    assert "wording" not in text
    assert files.load(replace(QUESTION, prompt=[None, "secret wording 0"])).own == Learned()
    assert files.load(replace(QUESTION, prompt=[None, "secret wording 10"])).own == answers(11)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"questions": []}', '{"questions": {"x": 3}}', '{"questions": {"D": {"learned": {}}}}']
)
def test_a_damaged_file_is_nothing_learned_and_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "tone.json").write_text(text.replace("D", QUESTION.digest))
    files = LearnedFiles(tmp_path)
    assert files.load(QUESTION).own == Learned()
    files.add(QUESTION, answers(2), AT)
    assert files.load(QUESTION).own == answers(2)


def test_it_is_forgotten_with_its_job(tmp_path: Path) -> None:
    files = LearnedFiles(tmp_path)
    files.add(QUESTION, answers(2), AT)
    files.forget("tone")
    files.forget("tone")
    assert files.load(QUESTION) == Known()
