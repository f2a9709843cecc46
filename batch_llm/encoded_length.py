"""How many tokens an encoding makes of a text, whatever the text.

Belongs here: counting with an encoding that is at hand, and what counts where it fails. Not here: which encoding a
model has, counting without one (tokens.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken

__all__ = ["PIECE_CHARS", "encoded_length", "size_bytes"]

# tiktoken goes back step by step over a run of blanks; at about a million its stack is used up, and it panics
PIECE_CHARS = 200_000


def encoded_length(encoding: tiktoken.Encoding, text: str) -> int:
    """Tokens of ``text``; a text that looks like a special token is plain text.

    Of one so long that it is counted in pieces, a few more or fewer where a run of blanks or letters had to be cut.
    """
    if len(text) <= PIECE_CHARS:
        return _counted(encoding, text)
    return sum(_counted(encoding, piece) for piece in _pieces(text))


def size_bytes(text: str) -> int:
    """Its UTF-8 bytes: no encoding makes more tokens of it."""
    return len(text.encode("utf-8", "replace"))


def _counted(encoding: tiktoken.Encoding, text: str) -> int:
    try:
        return len(encoding.encode_ordinary(text))
    except BaseException as error:  # a panic of its Rust code is no Exception, and has no class that can be imported
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        return size_bytes(text)


def _pieces(text: str) -> Iterator[str]:
    """Cut before a blank where there is one: no token has a blank behind anything but blanks."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        blank = text.rfind(" ", start + 1, start + PIECE_CHARS)
        end = blank if blank > 0 else start + PIECE_CHARS
        yield text[start:end]
        start = end
    yield text[start:]
