"""Is a stored answer good?

Belongs here: judging one raw answer against the job's schema; the promise that each has a verdict. Not here: what
follows from a bad one (retry.py), storing it (journal).

Invariant: a body has one verdict, in every process. The journal holds it before anybody looks into it, so that one
which raised would raise at every replay, and the job could never go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from batch_llm.errors import ErrorClass, ProviderError
from batch_llm.job.schema import AnswerMismatch, AnswerSchema
from batch_llm.providers.base import Completion, Embeddings, Provider, Usage

__all__ = ["AnyJudge", "Judge", "Verdict", "judged"]


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


_Said = TypeVar("_Said", Completion, Embeddings)


class AnyJudge(Protocol):
    """Reads and checks raw answers; pure, so that stored answers can be judged again for free."""

    def judge(self, body: bytes, rows: int = 1) -> Verdict:
        """The verdict on one stored body that answers so many rows; never raises for a bad one."""
        ...

    def for_schema(self, schema: AnswerSchema) -> AnyJudge:
        """The same provider's answers, judged against another schema."""
        ...


def judged(read: Callable[[bytes], _Said], weigh: Callable[[_Said], Verdict], body: bytes) -> Verdict:
    """What ``weigh`` finds of what ``read`` makes of a body; a verdict as well where either of them raises."""
    said = None
    try:
        said = read(body)
        return weigh(said)
    except ProviderError as error:
        return Verdict(error.error_class, str(error), None)
    except MemoryError:  # says nothing of the answer: where there is more, its verdict is another
        raise
    except Exception as error:  # noqa: BLE001  the boundary of every stored answer: see the invariant above
        return _unjudged(said, type(error).__name__)


def _unjudged(said: object, error_name: str) -> Verdict:
    """An answer whose reader or check is defective; ``said``: what was read of it, if anything."""
    if not isinstance(said, Completion | Embeddings):
        return Verdict(ErrorClass.MALFORMED, f"the answer cannot be read ({error_name})", None)
    message = f"the answer cannot be checked ({error_name})"
    if isinstance(said, Completion) and isinstance(said.text, str):
        return Verdict(ErrorClass.SCHEMA_MISMATCH, message, said.usage, said.text)
    return Verdict(ErrorClass.MALFORMED, message, said.usage)


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
        return judged(self._provider.read, self._weighed, body)

    def _weighed(self, completion: Completion) -> Verdict:
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
