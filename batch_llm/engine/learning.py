"""What a run learns, and keeps for the next one.

Belongs here: when it is read and written. Not here: the figures (learned.py), the file (journal/learned.py).
"""

from __future__ import annotations

import threading
from contextlib import suppress

from batch_llm.clock import Clock
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.learned import LearnedFiles, Question
from batch_llm.learned import Known, Learned
from batch_llm.tokens import OutputLength, Tokens

__all__ = ["EARLY_ANSWERS", "Learning", "question_of"]

EARLY_ANSWERS = 200  # of one process: after so many its first plan is looked at once more


def question_of(declared: DeclaredJob) -> Question:
    """What the lengths of a job's prompts and answers depend on."""
    job = declared.job
    prompt = [job.prompt.system, declared.user_template]
    params = job.params.model_dump(exclude_none=True)
    return Question(job.name, job.model, prompt, params, declared.answer.json_schema)


class Learning:
    """The lessons of one process about one question. Safe to use from several threads."""

    def __init__(self, files: LearnedFiles, question: Question, clock: Clock) -> None:
        """Reads what is known; blocking. `listen` says where more comes from."""
        self._files = files
        self._question = question
        self._clock = clock
        self._lock = threading.Lock()
        self._kept = Learned()  # of this process, and in the file
        self._unkept = Learned()
        self._sources: tuple[Tokens, OutputLength] | None = None
        self.known: Known = files.load(question)  # before this process
        self.early: Known | None = None  # after the first answers of this process

    def listen(self, tokens: Tokens, output_length: OutputLength) -> None:
        """Learn from what these are told."""
        self._sources = (tokens, output_length)
        output_length.call_after(EARLY_ANSWERS, self._look_early)

    def now(self) -> Known:
        """Everything that is known, this process's answers included."""
        with self._lock:
            self._gather()
            return self.known.with_more(self._kept.merge(self._unkept))

    def keep(self) -> None:
        """Bring what was learned into the home's file; blocking. A run goes on where that cannot be written."""
        with self._lock:
            self._gather()
            new, self._unkept = self._unkept, Learned()
            self._kept = self._kept.merge(new)
        if new.prompts.answers or new.answers.good or new.answers.bad:
            with suppress(OSError):  # a full disk stops the run at its journal, not here
                self._files.add(self._question, new, self._clock.now())

    def _gather(self) -> None:
        if self._sources is not None:
            tokens, output_length = self._sources
            self._unkept = self._unkept.merge(Learned(tokens.taken(), output_length.taken()))

    def _look_early(self) -> None:
        self.early = self.now()
