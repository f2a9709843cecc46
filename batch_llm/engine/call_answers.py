"""Is a stored answer to a call for many rows good?

Belongs here: judging one raw answer with vectors; which judge a job has. Not here: a chat's answers (answers.py), what
follows from a bad one (retry.py, packing.py), splitting its bill (shares.py), storing it (journal).
"""

from __future__ import annotations

from typing import cast

from batch_llm.engine.answers import AnyJudge, Judge, Verdict, judged
from batch_llm.errors import ErrorClass
from batch_llm.job.embedding import FLOAT_BYTES, EmbeddingAnswer
from batch_llm.job.schema import AnswerSchema
from batch_llm.providers.base import AnyProvider, EmbeddingProvider, Embeddings, Provider

__all__ = ["CallJudge", "judge_for"]


def judge_for(provider: AnyProvider, schema: AnswerSchema) -> AnyJudge:
    """Who judges the answers of a job with this answer; ``provider`` is of the job's kind."""
    if isinstance(schema, EmbeddingAnswer):
        return CallJudge(cast("EmbeddingProvider", provider), schema)
    return Judge(cast("Provider", provider), schema)


class CallJudge:
    """Judges answers with vectors, each to many rows."""

    def __init__(self, provider: EmbeddingProvider, answer: EmbeddingAnswer) -> None:
        """``provider`` reads its own bodies; ``answer`` is the job's."""
        self._provider = provider
        self._answer = answer

    def for_schema(self, schema: AnswerSchema) -> AnyJudge:
        """See `AnyJudge.for_schema`."""
        return judge_for(self._provider, schema)

    def judge(self, body: bytes, rows: int = 1) -> Verdict:
        """See `AnyJudge.judge`. All rows or none: an answer that lacks a vector does not say whose."""
        return judged(self._provider.read, lambda read: self._weighed(read, rows), body)

    def _weighed(self, read: Embeddings, rows: int) -> Verdict:
        if read.cut:
            message = f"the model read only the beginning of {read.cut:,} of {rows:,} texts: they are too long for it"
            return Verdict(ErrorClass.TOO_LARGE, message, read.usage)
        if not read.vectors:
            return Verdict(ErrorClass.EMPTY, "the answer has no vectors", read.usage)
        if len(read.vectors) != rows:
            return Verdict(ErrorClass.MALFORMED, f"{len(read.vectors):,} vectors for {rows:,} texts", read.usage)
        if len(read.vectors[0]) != self._answer.vector_bytes:
            got, wanted = len(read.vectors[0]) // FLOAT_BYTES, self._answer.dimensions
            message = f"vectors of {got:,} numbers, not {wanted:,}: params.dimensions must be what the model gives"
            return Verdict(ErrorClass.INVALID_REQUEST, message, read.usage)
        return Verdict(None, "", read.usage, vectors=read.vectors)
