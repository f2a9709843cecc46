"""batch_llm's errors as Dagster failures: the sentence for the user, not a stack.

Belongs here: that translation. Not here: the sentences.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from batch_llm.config.secrets import known_secrets, scrub
from batch_llm.errors import BatchLLMError

__all__ = ["refusals_as_failures"]


@contextmanager
def refusals_as_failures() -> Iterator[None]:
    """Turn an error that batch_llm raises on purpose into a `dg.Failure` that Dagster does not retry."""
    try:
        yield
    except BatchLLMError as error:
        raise dg.Failure(description=scrub(str(error), known_secrets()), allow_retries=False) from None
