"""Vectors as Vertex AI gives them: predict with instances, embedContent with one content.

Belongs here: reading both requests, the checks that Vertex AI makes and their wordings, both answers. Not here: what
all vendors check alike (embedding_request.py), vectors, the Gemini API's method (google_embedding_request.py).

Models with gemini-embedding in their name take one text, all but gemini-embedding-001 through embedContent only; all
others take predict only.
Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api (both messages of
predict, `autoTruncate` on by default),
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings (250 texts, 20,000 tokens of a
request, 2,048 of a text), google-genai 3.6.1, models.py (both requests and answers) (read 2026-11-29); each check names
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batch_llm.simulator.chat_request import token_count
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.google_refusals import invalid, not_imitated, precondition_failed
from batch_llm.simulator.google_request import PREFIX, camel, check_names, content_of
from batch_llm.simulator.refusals import Refused

__all__ = ["EMBED_CONTENT", "PREDICT", "VertexTexts", "read_content", "read_instances"]

PREDICT, EMBED_CONTENT = "predict", "embedContent"
CALL_TEXTS, CALL_TOKENS, TEXT_TOKENS = 250, 20_000, 2_048
GEMINI, FIRST_GEMINI = "gemini-embedding", "gemini-embedding-001"
TOP = frozenset(["instances", "parameters"])
INSTANCE = frozenset(["content", "task_type", "title"])
PARAMETERS = frozenset(["autoTruncate", "outputDimensionality"])
CONFIG = frozenset(["taskType", "title", "outputDimensionality", "autoTruncate"])
CONTENT_TOP = frozenset(["content", "embedContentConfig"]) | CONFIG


@dataclass(frozen=True, slots=True)
class VertexTexts:
    """The texts of a request, each as far as it is read."""

    texts: tuple[str, ...]
    counts: tuple[int, ...]  # of their tokens
    cut: tuple[bool, ...]  # whether more was given of it
    dimensions: Any

    def as_openai(self, model: str) -> dict[str, Any]:
        """The same as a request of OpenAI's form."""
        asked = {
            "model": f"simulator/{model.removeprefix(PREFIX)}",
            "input": list(self.texts),
            "encoding_format": "float",
        }
        return asked if self.dimensions is None else {**asked, "dimensions": self.dimensions}

    def predicted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of predict, made of OpenAI's list. Billed characters are those that are no white space.

        Source: https://cloud.google.com/vertex-ai/generative-ai/pricing (characters without white space; read
        2026-11-29).
        """
        total = body.get("usage", {}).get("prompt_tokens")
        told = self.counts if total == sum(self.counts) else [total] * len(self.counts)
        predictions = [
            {
                "embeddings": {
                    "values": each["embedding"],
                    **({} if total is None else {"statistics": {"token_count": count, "truncated": cut}}),
                }
            }
            for each, count, cut in zip(body["data"], told, self.cut, strict=False)
        ]
        characters = sum(len("".join(text.split())) for text in self.texts)
        return {"predictions": predictions, "metadata": {"billableCharacterCount": characters}}

    def embedded(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of embedContent, made of OpenAI's list.

        Source: google-cloud-ai_platform-v1 1.36.0, EmbedContentResponse (read 2026-11-29).
        """
        values = {"values": body["data"][0]["embedding"]} if body["data"] else {}
        made: dict[str, Any] = {"embedding": values, "truncated": self.cut[0]}
        if "usage" in body:
            tokens = body["usage"]["prompt_tokens"]
            made["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
        return made


def read_instances(body: Mapping[str, Any], model: str, config: SimulatorConfig) -> VertexTexts:
    """The texts of a predict request; raises `Refused`.

    Source: https://github.com/vercel/ai/issues/15853 (a model without predict); that `instances` are wanted:
    https://github.com/googleapis/js-genai/pull/1912, no recording of the wording was found (read 2026-11-29).
    """
    if GEMINI in model and FIRST_GEMINI not in model:
        raise precondition_failed()
    check_names([(body, "", TOP, frozenset(["labels"]))])
    instances, parameters = body.get("instances"), body.get("parameters") or {}
    if not isinstance(instances, list) or not instances:
        raise invalid("Unable to submit request because instances are not specified.")
    _check_number(len(instances), model)
    for each in [*instances, parameters]:
        known = PARAMETERS if each is parameters else INSTANCE
        if not isinstance(each, dict) or not each.keys() <= known:
            raise not_imitated(f"other keys than {', '.join(sorted(known))}")
    texts = [each.get("content") for each in instances]
    if not all(isinstance(text, str) for text in texts):
        raise invalid("batch-llm's simulator embeds texts only.")
    return _texts(texts, parameters, config)


def read_content(body: Mapping[str, Any], place: str, config: SimulatorConfig) -> VertexTexts:
    """The text of an embedContent request; raises `Refused`. ``place``: the model's whole name.

    google-genai puts the settings into a message of their own, the API's reference beside the content.
    Source: https://github.com/quarkiverse/quarkus-langchain4j/issues/2376 (a model without embedContent),
    https://github.com/agentgateway/agentgateway/pull/2968 (a setting beside the content) (read 2026-11-29).
    """
    if GEMINI not in place:
        raise invalid(f"Publisher Model `{place}` is not supported in the embedContent API.")
    own = camel(body.get("embedContentConfig") or {})
    check_names([(body, "", CONTENT_TOP, frozenset()), (own, "embed_content_config", CONFIG, frozenset())])
    text = content_of(body.get("content"), "content")
    if not isinstance(text, str):
        raise invalid("batch-llm's simulator embeds one text.")
    return _texts([text], {**body, **own}, config)


def _check_number(texts: int, model: str) -> None:
    """How many texts one request takes.

    Source: https://github.com/RooCodeInc/Roo-Code/issues/5123 (1), https://github.com/vercel/ai/issues/19950 (250)
    (read 2026-11-29).
    """
    if GEMINI in model and texts > 1:
        raise invalid(
            "Unable to submit request because it included too many instances. Reduce the number of instances and try "
            "again. Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings: "
            f"Unable to submit request because batchSize must be 1 but the entered value was {texts}. Update the "
            "batchSize value and try again."
        )
    if texts > CALL_TEXTS:
        raise invalid(
            f"Unable to submit request because it has a batchSize value of {texts} but the supported range is from 1 "
            f"(inclusive) to {CALL_TEXTS + 1} (exclusive)."
        )


def _texts(texts: Sequence[str], settings: Mapping[str, Any], config: SimulatorConfig) -> VertexTexts:
    """As far as they are read: too long a text is cut, or refused where that was asked for.

    Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/Shared.Types/TextEmbeddingPredictionParams
    (cut, or INVALID_ARGUMENT); the wording is quoted by many public repositories ("input token count is 34708 but the
    model supports up to 20000"), of one text none was found (read 2026-11-29).
    """
    counts = [token_count(len(text.encode()), config) for text in texts]
    if sum(counts) > CALL_TOKENS:
        raise _too_long(sum(counts), CALL_TOKENS)
    cut = [count > TEXT_TOKENS for count in counts]
    if any(cut) and settings.get("autoTruncate") is False:
        raise _too_long(max(counts), TEXT_TOKENS)
    most_bytes = int(TEXT_TOKENS * config.chars_per_token)
    read = [text.encode()[:most_bytes].decode(errors="ignore") for text in texts]
    counted = [token_count(len(text.encode()), config) for text in read]
    return VertexTexts(tuple(read), tuple(counted), tuple(cut), settings.get("outputDimensionality"))


def _too_long(tokens: int, most: int) -> Refused:
    return invalid(
        f"Unable to submit request because the input token count is {tokens} but the model supports up to {most}. "
        "Reduce the input token count and try again. You can also use the CountTokens API to calculate prompt token "
        "count and billable characters. Learn more: https://cloud.google.com/vertex-ai/generative-ai/docs/learn/models"
    )
