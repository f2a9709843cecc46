"""What was learned of a home's jobs, one small file each.

Belongs here: reading, adding to and erasing these files. Not here: what is in them (learned.py).

    <home>/learned/<job>.json           figures per question (prompt, params, schema) and model; no text
    <home>/learned/<job>.json.changing  locked while somebody adds to it
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from batch_llm.journal.locks import passing_lock
from batch_llm.learned import OLDER_ANSWERS, AnswerEvidence, Known, Learned

__all__ = ["LearnedFiles", "Question"]

MOST_QUESTIONS = 8  # of a job; the one that was asked longest ago goes first
MOST_BYTES = 1_000_000  # no file of ours is so large: one that is was not written by us


@dataclass(frozen=True, slots=True)
class Question:
    """What the lengths of prompts and answers depend on."""

    job: str
    model: str  # provider name / model
    prompt: Any  # plain data: system and user template
    params: Any
    schema: Any  # JSON Schema; None: free text

    @property
    def digest(self) -> str:
        """Of all of it."""
        return _digest([self.model, self.prompt, self.params, self.schema])

    @property
    def schema_digest(self) -> str:
        """Of the answer's shape alone."""
        return _digest(self.schema)


class LearnedFiles:
    """The files of one home. What cannot be read counts as nothing learned; what cannot be written is lost."""

    def __init__(self, folder: Path) -> None:
        """``folder``: made when something is kept."""
        self._folder = folder

    def load(self, question: Question) -> Known:
        """What is known of this question, and with little weight what the wording before it taught; blocking."""
        stored = self._read(question.job)
        own = _learned(stored.get(question.digest))
        others = [
            kept for digest, kept in stored.items() if digest != question.digest and kept.get("model") == question.model
        ]
        if not others:
            return Known(own)
        newest = max(others, key=lambda kept: str(kept.get("at")))
        older = _learned(newest).weighing(OLDER_ANSWERS)
        if newest.get("schema") != question.schema_digest:  # an answer of another shape has another length
            older = Learned(older.prompts, AnswerEvidence())
        return Known(own, older)

    def add(self, question: Question, learned: Learned, at: datetime) -> None:
        """Add what was learned since the last time; blocking, by any number of processes. Raises `OSError`."""
        path = self._path(question.job)
        with passing_lock(path.with_name(f"{path.name}.changing")):
            stored = self._read(question.job)
            whole = _learned(stored.get(question.digest)).merge(learned).bounded()
            stored[question.digest] = {
                "model": question.model,
                "schema": question.schema_digest,
                "at": at.isoformat(),
                "learned": whole.as_json(),
            }
            newest = sorted(stored, key=lambda digest: str(stored[digest].get("at")), reverse=True)
            kept = {digest: stored[digest] for digest in newest[:MOST_QUESTIONS]}
            part = path.with_name(f"{path.name}.{os.getpid()}")
            part.write_bytes(orjson.dumps({"questions": kept}, option=orjson.OPT_INDENT_2))
            part.replace(path)

    def forget(self, job: str) -> None:
        """Erase what was learned of a job."""
        self._path(job).unlink(missing_ok=True)

    def _path(self, job: str) -> Path:
        return self._folder / f"{job}.json"

    def _read(self, job: str) -> dict[str, dict[str, Any]]:
        try:
            path = self._path(job)
            if path.stat().st_size > MOST_BYTES:
                return {}
            questions = orjson.loads(path.read_bytes())["questions"]
            return {name: kept for name, kept in questions.items() if isinstance(kept, dict)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or of another version
            return {}


def _learned(kept: Mapping[str, Any] | None) -> Learned:
    if kept is None:
        return Learned()
    try:
        return Learned.from_json(kept["learned"])
    except (ValueError, TypeError, KeyError, AttributeError):  # of another version
        return Learned()


def _digest(said: Any) -> str:
    return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
