"""The JSON of a completion, whole or as a stream of chunks.

Belongs here: OpenAI's objects. Not here: their content (answers.py), the wire (delivery.py).
Source: openai 3.54.0, types/chat/chat_completion.py, chat_completion_chunk.py, types/model.py (read 2026-11-21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from batch_llm.simulator.answers import Answer
from batch_llm.simulator.dialect import OPENAI, Dialect
from batch_llm.simulator.faults import FaultKind

__all__ = ["Completed", "model_list", "usage_of"]

# Characters per streamed chunk: about what one token is.
CHUNK_CHARS = 16


def usage_of(prompt_tokens: int, answer: Answer, fault: FaultKind | None, variant: int) -> dict[str, Any] | None:
    """The usage object; spoiled when the fault says so: negative, absurd or absent."""
    output_tokens = answer.tokens
    if fault is FaultKind.USAGE:
        if variant % 3 == 0:
            return None
        prompt_tokens, output_tokens = (-prompt_tokens, -1) if variant % 3 == 1 else (10**12, 10**12)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(frozen=True, slots=True)
class Completed:
    """A completion with what both forms share."""

    completion_id: str
    created: int  # unix seconds
    model: str
    answer: Answer
    usage: dict[str, Any] | None
    dialect: Dialect = OPENAI

    def whole(self) -> bytes:
        """The chat.completion object, or another vendor's."""
        if self.dialect.whole is not None:
            return self.dialect.whole(self)
        message: dict[str, Any] = {"role": "assistant", "content": self.answer.text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.answer.finish_reason}
        dialect = self.dialect
        body = {**self._head("chat.completion"), **dialect.completion, "choices": [{**choice, **dialect.choice}]}
        return orjson.dumps(body if self.usage is None else body | {"usage": self.usage})

    def chunks(self, *, include_usage: bool) -> list[bytes]:
        """The server-sent events: role, pieces of text, finish reason, usage if asked for, [DONE].

        Source: openai 3.54.0, types/chat/chat_completion_stream_options_param.py: the usage chunk has no choices, all
        other chunks then carry a null usage (read 2026-11-21).
        """
        text = self.answer.text
        deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
        deltas += [({"content": text[at : at + CHUNK_CHARS]}, None) for at in range(0, len(text), CHUNK_CHARS)]
        deltas.append(({}, self.answer.finish_reason))
        head = self._head("chat.completion.chunk")
        if include_usage:
            head["usage"] = None
        events = [
            head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
            for delta, finish in deltas
        ]
        if include_usage:
            events.append(head | {"choices": [], "usage": self.usage})
        return [b"data: " + orjson.dumps(event) + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulator",
        }


def model_list(models: tuple[str, ...], created: int) -> dict[str, Any]:
    """The JSON of GET /v1/models."""
    listed = [{"id": name, "object": "model", "created": created, "owned_by": "batch-llm"} for name in models]
    return {"object": "list", "data": listed}
