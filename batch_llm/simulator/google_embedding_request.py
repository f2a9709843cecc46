"""Reading a batchEmbedContents request, and what it is in OpenAI's words.

Belongs here: the checks that Google makes and their wordings, the translation. Not here: sizes and counts that both
check alike (embedding_request.py), vectors.
Source: google-genai 3.6.1, models.py (the request's fields; read 2026-11-29); each check names its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch_llm.simulator.google_refusals import invalid
from batch_llm.simulator.google_request import PREFIX, camel, check_names, content_of

__all__ = ["as_openai_embeddings"]

CALL_REQUESTS = 100
KNOWN = frozenset(["content", "model", "outputDimensionality", "taskType", "title"])


def as_openai_embeddings(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The same texts as a request of OpenAI's form; ``model``: the name in the address.

    Source: https://github.com/geldata/gel/issues/9032 (more than 100; read 2026-11-29). That each request repeats the
    address's model: https://ai.google.dev/api/embeddings (read 2026-11-29); no recording of the wording was found.
    """
    check_names([(body, "", frozenset(["requests"]), frozenset())])
    requests = body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    if len(requests) > CALL_REQUESTS:
        raise invalid(f"* BatchEmbedContentsRequest.requests: at most {CALL_REQUESTS} requests can be in one batch\n")
    texts, sizes = [], set()
    for number, each in enumerate(requests):
        place = f"requests[{number}]"
        asked = camel(each)
        check_names([(asked, place, KNOWN, frozenset())])
        if not isinstance(asked, dict) or asked.get("model") != f"models/{model}":
            raise invalid(f"* BatchEmbedContentsRequest.{place}.model: must be the model of the batch\n")
        text = content_of(asked.get("content"), f"{place}.content")
        if not isinstance(text, str) and any("text" not in part for part in text):
            raise invalid("batch-llm's simulator embeds texts only.")
        texts.append(text if isinstance(text, str) else "".join(part["text"] for part in text))
        sizes.add(asked.get("outputDimensionality"))
    if len(sizes) > 1:
        raise invalid("batch-llm's simulator gives vectors of one size per batch.")
    made: dict[str, Any] = {
        "model": f"simulator/{model.removeprefix(PREFIX)}",
        "input": texts,
        "encoding_format": "float",
    }
    size = sizes.pop()
    return made if size is None else {**made, "dimensions": size}
