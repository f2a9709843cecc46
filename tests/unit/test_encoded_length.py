"""Any text has a length."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_llm import encoded_length as module
from batch_llm.encoded_length import encoded_length, size_bytes
from batch_llm.tokens import Tokens
from tests.search import examples

MODELS = ("gpt-4o", "gpt-4")


def encoding(model: str) -> Any:
    found = Tokens(model)._find_encoding()
    assert found is not None
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("character", [" ", "\t", "\xa0"])
def test_a_million_blanks_are_counted(model: str, character: str) -> None:
    """Of the whole run tiktoken would panic."""
    blanks = character * 1_200_000
    assert 1 <= Tokens(model).count(f"a{blanks}b") <= size_bytes(blanks)


class Odd:
    """An encoding that fails on some texts."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def encode_ordinary(self, text: str) -> list[int]:
        raise self.error


class PanicException(BaseException):
    """As pyo3's, which cannot be imported."""


@pytest.mark.parametrize("error", [PanicException("at src/lib.rs"), OverflowError(), ValueError("no"), MemoryError()])
def test_a_text_that_the_encoding_cannot_take_counts_as_its_bytes(error: BaseException) -> None:
    """They are never fewer than its tokens."""
    assert encoded_length(Odd(error), "größer") == 8  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_stop_passes(error: type[BaseException]) -> None:
    with pytest.raises(error):
        encoded_length(Odd(error()), "text")  # type: ignore[arg-type]


@settings(max_examples=examples(100))
@given(st.text(alphabet=" ab,1\n\u0301é", max_size=60), st.integers(1, 20))
def test_the_pieces_are_the_text(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PIECE_CHARS", size)
        pieces = list(module._pieces(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= size for piece in pieces if text)


@settings(max_examples=examples(100))
@given(st.lists(st.text(alphabet="abÄ1,.'", min_size=1, max_size=10), max_size=20).map(" ".join), st.integers(11, 30))
def test_words_between_blanks_are_counted_in_pieces_as_in_one(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PIECE_CHARS", size)
        for model in MODELS:
            whole = len(encoding(model).encode_ordinary(text))
            assert encoded_length(encoding(model), text) == whole
