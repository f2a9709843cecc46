"""How much one call for vectors may hold.

Belongs here: the record; its defaults are OpenAI's. Not here: packing rows into calls (engine/packing.py), what another
provider takes (the folders beside this file).
Source: openai 3.54.0, types/embedding_create_params.py (2,048 texts of 8,192 tokens, 300,000 tokens together; read
2026-11-28).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AS_OPENAI", "CallSize"]


@dataclass(frozen=True, slots=True)
class CallSize:
    """The most that one call may hold."""

    texts: int = 2_048
    tokens: int = 300_000  # of all texts together
    text_tokens: int = 8_192  # of one text
    text_is_request: bool = False  # whether each text counts as a request on the limits


AS_OPENAI = CallSize()
