"""The same account, spoken to as Google is: the Gemini API with a key, Vertex AI with a project's token.

Belongs here: Google's addresses and keys, each rule with its source. Not here: reading a request (google_request.py),
its answer's JSON (google_bodies.py), refusals (google_refusals.py), how a limit counts (meters.py). Tokens of Google
Cloud are taken as they come, unless the account has a key: nobody here can check one.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import orjson
from aiohttp import web

from batch_llm.simulator.account import Account
from batch_llm.simulator.chat import ChatEndpoint
from batch_llm.simulator.chat_request import token_count
from batch_llm.simulator.dialect import Dialect
from batch_llm.simulator.embeddings import EmbeddingsEndpoint
from batch_llm.simulator.google_bodies import blocked, embedded, generated
from batch_llm.simulator.google_embedding_request import as_openai_embeddings
from batch_llm.simulator.google_images import check_addresses, count_image
from batch_llm.simulator.google_refusals import (
    as_google,
    keyless_project,
    no_key,
    not_found,
    project_model_not_found,
    wrong_key,
    wrong_token,
)
from batch_llm.simulator.google_request import PREFIX, as_openai, file_parts, read_json, read_object, texts_of
from batch_llm.simulator.refusals import Refused
from batch_llm.simulator.vertex_embeddings import EMBED_CONTENT, PREDICT, read_content, read_instances

__all__ = ["GoogleEndpoints", "is_googles"]

# Source: https://ai.google.dev/api (v1beta), google-genai 3.6.1, models.py and _api_client.py (v1; v1beta1 of projects)
# (read 2026-11-29).
_GEMINI = re.compile(r"/(?P<version>v1|v1beta)/models/(?P<model>[^/:]+):(?P<method>[A-Za-z]+)")
_VERTEX = re.compile(
    r"/(?P<version>v1|v1beta1)/(?P<place>projects/[^/]+/locations/[^/]+/publishers/google/models/(?P<model>[^/:]+))"
    r":(?P<method>[A-Za-z]+)"
)
GENERATE, EMBED = "generateContent", "batchEmbedContents"
ROOTS = ("/v1beta/", "/v1beta1/", "/v1/projects/")  # nobody else's
# no header says what is left
GOOGLE = Dialect(headers=lambda _gate, _now_s: {}, whole=generated, vectors=embedded, count_image=count_image)
# Source: https://github.com/garrytan/gbrain/pull/1922 (a batch of 100 uses up 100 requests a minute; read 2026-11-29).
GEMINI_VECTORS = replace(GOOGLE, text_is_request=True)


def is_googles(path: str) -> bool:
    """Whether an address is one of Google's."""
    return path.startswith(ROOTS) or _GEMINI.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class _Called:
    """What the address of a request says."""

    model: str
    method: str
    version: str
    place: str | None  # the model's whole name, with project and location; None: the Gemini API

    def not_found(self) -> Refused:
        """The model or the method is not there."""
        return (
            not_found(self.model, self.method, self.version)
            if self.place is None
            else project_model_not_found(self.place)
        )


_Answering = Callable[[web.BaseRequest, _Called, str], Awaitable[web.StreamResponse]]


class GoogleEndpoints:
    """Both doors to one account: `/v1beta/models/<model>:generateContent` (or v1), and the same below a project."""

    def __init__(self, account: Account) -> None:
        """``account``: whose limits, faults and statistics hold."""
        self._account = account
        self._chat = ChatEndpoint(account, GOOGLE)
        self._embeddings = EmbeddingsEndpoint(account, GEMINI_VECTORS)
        self._methods: dict[bool, dict[str, _Answering]] = {  # by whether a project is asked
            False: {GENERATE: self._generate, EMBED: self._embed},
            True: {GENERATE: self._generate, PREDICT: self._predict, EMBED_CONTENT: self._predict},
        }

    async def answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """Answer one request; raises `Refused` for everything that is not a 200."""
        called = _called(request)
        self._check_key(request, called)
        answering = self._methods[called.place is not None].get(called.method)
        if answering is None or not called.model.startswith(PREFIX) or called.model == PREFIX:
            raise called.not_found()
        return await answering(request, called, request_id)

    async def _embed(self, request: web.BaseRequest, called: _Called, request_id: str) -> web.StreamResponse:
        asked = as_openai_embeddings(read_json(await request.read()), called.model)
        try:
            return await self._embeddings.answer_body(request, orjson.dumps(asked), request_id)
        except Refused as refused:
            raise as_google(refused, 0, self._account.config) from None

    async def _predict(self, request: web.BaseRequest, called: _Called, request_id: str) -> web.StreamResponse:
        """Vectors of a project, by either method."""
        config, body = self._account.config, read_json(await request.read())
        alone = called.method == EMBED_CONTENT
        texts = read_content(body, str(called.place), config) if alone else read_instances(body, called.model, config)
        dialect = replace(GOOGLE, vectors=texts.embedded if alone else texts.predicted)
        try:
            answering = EmbeddingsEndpoint(self._account, dialect)
            return await answering.answer_body(request, orjson.dumps(texts.as_openai(called.model)), request_id)
        except Refused as refused:
            raise as_google(refused, 0, config) from None

    async def _generate(self, request: web.BaseRequest, called: _Called, request_id: str) -> web.StreamResponse:
        config = self._account.config
        body = read_object(await request.read())
        asked = as_openai(body, called.model)
        check_addresses(file_parts(body), called.model, is_project=called.place is not None)
        texts = texts_of(asked)
        prompt_tokens = token_count(sum(len(text.encode()) for text in texts), config)
        if any(word in text for word in config.filtered_words for text in texts):
            self._account.stats.rejected["content_filter"] += 1
            blocked_body = blocked(asked["model"], request_id, prompt_tokens)
            return web.Response(body=blocked_body, content_type="application/json")
        try:
            return await self._chat.answer_body(request, orjson.dumps(asked), request_id)
        except Refused as refused:
            raise as_google(refused, prompt_tokens, config) from None

    def _check_key(self, request: web.BaseRequest, called: _Called) -> None:
        """The header x-goog-api-key; of a project a bearer token. A key in the address is not looked for.

        Source: https://ai.google.dev/api (the header; read 2026-11-29); the refusals: google_refusals.py.
        """
        wanted = self._account.config.api_key
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = request.headers.get("x-goog-api-key", "")
        if called.place is not None:
            given = token.strip() if scheme.lower() == "bearer" else ""
        if not given:
            raise no_key() if called.place is None else keyless_project()
        if wanted is not None and not hmac.compare_digest(given.encode(), wanted.get_secret_value().encode()):
            raise wrong_key() if called.place is None else wrong_token()


def _called(request: web.BaseRequest) -> _Called:
    """What is asked for; what is no model's method is a model that is not there."""
    found = _GEMINI.fullmatch(request.path) or _VERTEX.fullmatch(request.path)
    if found is None or request.method != "POST":
        raise not_found(request.path.rpartition("models/")[2], request.method, request.path.split("/")[1])
    return _Called(found["model"], found["method"], found["version"], found.groupdict().get("place"))
