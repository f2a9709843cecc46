"""Is a stored answer to a call for many rows good, and which vector is whose?

Belongs here: judging one raw answer with vectors, finding a row's vector in it again. Not here: a chat's answers
(answers.py), what follows from a bad one (retry.py, packing.py), splitting its bill (shares.py), storing it (journal).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.job.embedding import FLOAT_BYTES, EmbeddingAnswer
from batch_llm.providers.base import EmbeddingProvider, Usage

__all__ = ["CallJudge", "CallVerdict", "StoredVectors"]

KEPT_CALLS = 4  # decoded at once: rows of one call stand together, but for those that were asked again


@dataclass(frozen=True, slots=True)
class CallVerdict:
    """What a raw answer is worth. Good: `error_class` is None and there is a vector for each row, in their order."""

    error_class: ErrorClass | None
    message: str
    usage: Usage | None  # of all rows together
    vectors: tuple[bytes, ...] = ()


class CallJudge:
    """Reads and checks raw answers; pure, so that stored answers can be judged again for free."""

    def __init__(self, provider: EmbeddingProvider, answer: EmbeddingAnswer) -> None:
        """``provider`` reads its own bodies; ``answer`` is the job's."""
        self._provider = provider
        self._answer = answer

    def judge(self, body: bytes, rows: int) -> CallVerdict:
        """The verdict on one stored body that answers so many rows; never raises for a bad one.

        All rows or none: an answer that lacks a vector does not say whose.
        """
        try:
            read = self._provider.read(body)
        except ProviderError as error:
            return CallVerdict(error.error_class, str(error), None)
        if not read.vectors:
            return CallVerdict(ErrorClass.EMPTY, "the answer has no vectors", read.usage)
        if len(read.vectors) != rows:
            return CallVerdict(ErrorClass.MALFORMED, f"{len(read.vectors):,} vectors for {rows:,} texts", read.usage)
        if len(read.vectors[0]) != self._answer.vector_bytes:
            got, wanted = len(read.vectors[0]) // FLOAT_BYTES, self._answer.dimensions
            message = f"vectors of {got:,} numbers, not {wanted:,}: params.dimensions must be what the model gives"
            return CallVerdict(ErrorClass.INVALID_REQUEST, message, read.usage)
        return CallVerdict(None, "", read.usage, read.vectors)


class StoredVectors:
    """Vectors of rows out of stored answers, each answer decoded once while its rows pass by in order."""

    def __init__(self, judge: CallJudge, body: Callable[[int], bytes]) -> None:
        """``body`` gives the stored body at a place of the journal."""
        self._judge = judge
        self._body = body
        self._calls: OrderedDict[int, tuple[bytes, ...]] = OrderedDict()

    def vector(self, place: int, position: int, rows: int) -> bytes | None:
        """The vector at ``position`` (0-based) of the answer stored at ``place``, which answered so many rows.

        None when the answer is not good (any more).
        """
        vectors = self._calls.get(place)
        if vectors is None:
            vectors = self._calls[place] = self._judge.judge(self._body(place), rows).vectors
            if len(self._calls) > KEPT_CALLS:
                self._calls.popitem(last=False)
        self._calls.move_to_end(place)
        return vectors[position] if vectors else None
