"""The answer of an embedding job: one column of vectors, all of one size.

Belongs here: the size of a job's vectors, the column, building it from bytes. Not here: a chat's answer (schema.py),
reading vectors out of a response (providers/openai/embeddings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_llm.job.schema import AnswerMismatch, AnswerSchema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EMBEDDING_COLUMN", "EmbeddingAnswer", "EmbeddingModel", "embedding_model"]

EMBEDDING_COLUMN = "embedding"
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What is known of a model."""

    dimensions: int  # of its vectors, when no others are asked for, and at most
    shortens: bool  # takes `dimensions`


# Source: https://developers.openai.com/api/docs/guides/embeddings (1536 and 3072 by default; public copies),
# https://help.openai.com/en/articles/7437458-embeddings (ada-002, as quoted in
# https://github.com/MicrosoftDocs/azure-docs/pull/109793), openai 3.54.0, types/embedding_create_params.py ("only
# supported in text-embedding-3 and later models") (read 2026-11-28);
# https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api (Google's, "up to")
# (read 2026-11-29).
_MODELS = {
    "text-embedding-3-small": EmbeddingModel(1_536, shortens=True),
    "text-embedding-3-large": EmbeddingModel(3_072, shortens=True),
    "text-embedding-ada-002": EmbeddingModel(1_536, shortens=False),
    "gemini-embedding-001": EmbeddingModel(3_072, shortens=True),
    "text-embedding-005": EmbeddingModel(768, shortens=True),
    "text-multilingual-embedding-002": EmbeddingModel(768, shortens=True),
}


def embedding_model(model_name: str) -> EmbeddingModel | None:
    """What is known of a model, by its name without a vendor before a slash; None for all others."""
    return _MODELS.get(model_name.rsplit("/", 1)[-1])


class EmbeddingAnswer(AnswerSchema):
    """The counterpart of a chat's schema: nothing is told to the provider, and no text is parsed.

    Attributes:
        dimensions: Numbers per vector.
    """

    dimensions: int

    def __init__(self, dimensions: int) -> None:
        """``dimensions``: 1 or more."""
        super().__init__(None)
        self.dimensions = dimensions
        self.columns = (EMBEDDING_COLUMN,)

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector: float32."""
        return self.dimensions * FLOAT_BYTES

    @property
    def arrow_fields(self) -> list[pa.Field]:
        """The column of vectors; a failed row has none."""
        import pyarrow as pa  # late: `--help` must not load it

        return [pa.field(EMBEDDING_COLUMN, pa.list_(pa.float32(), self.dimensions))]

    def parse(self, text: str) -> dict[str, Any]:
        """Raises `AnswerMismatch`, always: vectors are no text."""
        raise AnswerMismatch(f"a text of {len(text)} characters is no vector")

    def column(self, vectors: Sequence[bytes | None]) -> pa.FixedSizeListArray:
        """The column's values from vectors as they came (float32, little endian); None: no vector.

        No number becomes a Python float: 30 µs per vector of 1,536 numbers. Raises ValueError for a
        vector of another size.
        """
        import pyarrow as pa

        nothing = bytes(self.vector_bytes)
        wrong = next((each for each in vectors if each is not None and len(each) != self.vector_bytes), None)
        if wrong is not None:
            raise ValueError(f"a vector of {len(wrong) / FLOAT_BYTES:g} numbers among those of {self.dimensions}")
        packed = b"".join(nothing if each is None else each for each in vectors)
        numbers = pa.Array.from_buffers(pa.float32(), len(vectors) * self.dimensions, [None, pa.py_buffer(packed)])
        absent = None if None not in vectors else pa.array([each is None for each in vectors])
        return pa.FixedSizeListArray.from_arrays(numbers, type=self.arrow_fields[0].type, mask=absent)
