"""What one vendor puts around an answer that another does not.

Belongs here: the record, OpenAI's own. Not here: another vendor's addresses, keys and refusals (azure.py, google.py,
anthropic.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_llm.simulator.images import CountImage, count_image
from batch_llm.simulator.limits import Gate

if TYPE_CHECKING:
    from batch_llm.simulator.bodies import Completed

__all__ = ["OPENAI", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a vendor tells what is left of the limits, and what it makes of a whole completion."""

    headers: Callable[[Gate, float], dict[str, str]]
    completion: Mapping[str, Any] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    whole: Callable[[Completed], bytes] | None = None  # the answer in a form of its own; None: OpenAI's completion
    count_image: CountImage = count_image
    vectors: Callable[[dict[str, Any]], dict[str, Any]] | None = None  # its form of OpenAI's list of vectors
    text_is_request: bool = False  # whether each text to embed counts as a request on the limits


OPENAI = Dialect(headers=Gate.headers)
