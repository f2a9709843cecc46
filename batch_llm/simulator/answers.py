"""What the simulated model says.

Belongs here: text, length, finish reason, as a function of prompt, model and seed. Not here: the JSON around it
(bodies.py), the wire (delivery.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from batch_llm.simulator.chat_request import ChatRequest, token_count
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.draws import Draw, lognormal, words

__all__ = ["Answer", "halved", "write_answer"]

# Free text of at least this many characters begins by saying what it is.
LABELLED = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer."""

    text: str
    tokens: int
    finish_reason: str  # stop | length


def write_answer(request: ChatRequest, config: SimulatorConfig) -> Answer:
    """Answer this request: always the same for the same messages, model, response_format and seeds."""
    draw = Draw(int.from_bytes(request.entropy[:8], "big"))
    if request.make_answer is None:
        text = _free_text(request, draw, config)
    else:
        text = orjson.dumps(request.make_answer(draw)).decode()
    for stop in request.stop:
        text = text.split(stop, 1)[0]
    return _cut(text, min(request.max_tokens or config.max_output_tokens, config.max_output_tokens), config)


def halved(answer: Answer, config: SimulatorConfig) -> Answer:
    """The same answer, cut in the middle as if it had met a length limit."""
    return _cut(answer.text, max(1, answer.tokens // 2), config, always=True)


def _free_text(request: ChatRequest, draw: Draw, config: SimulatorConfig) -> str:
    tokens = round(lognormal(draw, config.answer_tokens_median, config.answer_tokens_sigma))
    length = max(1, int(max(1, tokens) * config.chars_per_token))
    if length < LABELLED:
        return words(draw, length)
    label = f"[simulated {request.entropy[8:12].hex()}] "
    return label + words(draw, length - len(label))


def _cut(text: str, max_tokens: int, config: SimulatorConfig, always: bool = False) -> Answer:
    raw = text.encode()
    tokens = token_count(len(raw), config)
    if tokens <= max_tokens and not always:
        return Answer(text, tokens, "stop")
    kept = raw[: max(1, int(max_tokens * config.chars_per_token))]
    return Answer(kept.decode(errors="ignore"), min(tokens, max_tokens), "length")
