"""Is a stored answer good?

Belongs here: judging one raw answer against the job's schema. Not here: what follows from a bad one (retry.py),
storing it (journal).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.job.schema import AnswerMismatch, AnswerSchema
from batch_llm.providers.base import Completion, Provider, Usage

__all__ = ["AnyJudge", "Judge", "Verdict"]


class Verdict(NamedTuple):
    """What a raw answer is worth. Good: `error_class` is None, and `values` holds a value per answer column.

    Of an answer to many rows: `vectors` holds one for each, in their order; the usage is of all of them together.
    """

    error_class: ErrorClass | None
    message: str
    usage: Usage | None
    text: str = ""
    values: dict[str, Any] | None = None
    vectors: tuple[bytes, ...] = ()


class AnyJudge(Protocol):
    """Reads and checks raw answers; pure, so that stored answers can be judged again for free."""

    def judge(self, body: bytes, rows: int = 1) -> Verdict:
        """The verdict on one stored body that answers so many rows; never raises for a bad one."""
        ...

    def for_schema(self, schema: AnswerSchema) -> AnyJudge:
        """The same provider's answers, judged against another schema."""
        ...


class Judge:
    """Judges a chat's answers, each to one row."""

    def __init__(self, provider: Provider, schema: AnswerSchema) -> None:
        """``provider`` reads its own bodies; ``schema`` is the job's."""
        self._provider = provider
        self._schema = schema

    def for_schema(self, schema: AnswerSchema) -> Judge:
        """The same provider's answers, judged against another schema."""
        return Judge(self._provider, schema)

    def judge(self, body: bytes, rows: int = 1) -> Verdict:
        """See `AnyJudge.judge`."""
        try:
            completion = self._provider.read(body)
        except ProviderError as error:
            return Verdict(error.error_class, str(error), None)
        bad = self._bad_finish(completion)
        if bad is not None:
            return Verdict(bad[0], bad[1], completion.usage, completion.text)
        try:
            values = self._schema.parse(completion.text)
        except AnswerMismatch as error:
            return Verdict(ErrorClass.SCHEMA_MISMATCH, str(error), completion.usage, completion.text)
        return Verdict(None, "", completion.usage, completion.text, values)

    @staticmethod
    def _bad_finish(completion: Completion) -> tuple[ErrorClass, str] | None:
        match completion.finish_reason:
            case "length":
                return ErrorClass.TRUNCATED, "the answer was cut short (finish_reason=length)"
            case "content_filter":
                return ErrorClass.CONTENT_FILTER, "the provider's content filter stopped the answer"
            case "refusal":
                return ErrorClass.REFUSED, "the model refused to answer"
            case "stop":
                pass
            case other:
                return ErrorClass.MALFORMED, f"the answer ended without a reason we know ({other})"
        if not completion.text.strip():
            return ErrorClass.EMPTY, "the answer has no text"
        return None
