"""The simulator's web server: its life, its endpoints, `batch-llm simulator`.

Belongs here: opening and closing the socket, routing, /stats, /sim/*, /healthz. Not here: chat completions (chat.py),
embeddings (embeddings.py), what is spoken as others do (azure.py, google.py, anthropic.py).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Self

import orjson
from aiohttp import web
from pydantic import ValidationError

from batch_llm.clock import Clock, SystemClock
from batch_llm.simulator.account import Account
from batch_llm.simulator.anthropic import AnthropicEndpoint
from batch_llm.simulator.azure import ROOT, AzureEndpoints
from batch_llm.simulator.bodies import model_list
from batch_llm.simulator.chat import ChatEndpoint
from batch_llm.simulator.config import SimulatorConfig
from batch_llm.simulator.embeddings import EmbeddingsEndpoint
from batch_llm.simulator.google import GoogleEndpoints, is_googles
from batch_llm.simulator.refusals import INJECTED, Refused, bad_request, model_not_found, unknown_url

__all__ = ["Simulator", "serve"]

# Prompts of a million tokens are a few MB.
MAX_BODY_BYTES = 64 * 1024 * 1024
BACKLOG = 2_048
SHUTDOWN_S = 0.2  # how long an answer may take to go out once the server closes

Endpoint = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Simulator:
    """An OpenAI-compatible provider on a local port, in this process. Open it with ``async with``.

    Attributes:
        base_url: What to give the openai SDK, ``http://127.0.0.1:<port>/v1``; known once it is open.
        origin: The same without the path, ``http://127.0.0.1:<port>``: for the clients of Azure, Google and Anthropic.
    """

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        *,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """``port`` 0: any free one. Limits, latencies and retry-after run on ``clock``."""
        self.base_url = self.origin = ""
        self._host = host
        self._port = port
        self._clock = clock or SystemClock()
        self._account = Account(config or SimulatorConfig(), self._clock)
        self._numbers = count(1)
        self._answering = {
            "/v1/chat/completions": ChatEndpoint(self._account).answer,
            "/v1/embeddings": EmbeddingsEndpoint(self._account).answer,
            "/v1/messages": AnthropicEndpoint(self._account).answer,
        }
        self._azure = AzureEndpoints(self._account)
        self._google = GoogleEndpoints(self._account)
        self._runner: web.ServerRunner | None = None
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", "/v1/models"): self._models,
            ("GET", "/healthz"): self._health,
            ("GET", "/stats"): self._stats,
            ("GET", "/sim/config"): self._config,
            ("POST", "/sim/config"): self._configure,
            ("POST", "/sim/reset"): self._reset,
        }

    async def __aenter__(self) -> Self:
        """Open the port."""
        server = web.Server(
            self._handle, request_factory=_request, handler_cancellation=True, access_log=None, tcp_keepalive=False
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, backlog=BACKLOG, reuse_address=True)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.origin = f"http://{shown}:{self._port}"
        self.base_url = f"{self.origin}/v1"
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the port and every connection; hanging and sleeping requests are dropped."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def stats(self, *, detail: bool = False) -> dict[str, Any]:
        """The same as GET /stats: ``detail`` adds every prompt's counts."""
        return self._account.stats.as_dict(detail=detail) | {"utilisation": self._account.gate.utilisation()}

    def configure(self, **changes: Any) -> None:
        """Change settings from the next request on, like POST /sim/config; raises pydantic's ValidationError."""
        merged = self._account.config.model_dump() | changes
        self._account.configure(SimulatorConfig.model_validate(merged))

    def reset(self) -> None:
        """Forget the statistics, like POST /sim/reset."""
        self._account.reset()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = f"req_{next(self._numbers):032x}"
        try:
            answering = self._answering.get(request.path)
            if answering is not None and request.method == "POST":
                return await answering(request, request_id)
            endpoint = self._endpoints.get((request.method, request.path))
            if endpoint is not None:
                return await endpoint(request)
            if request.path.startswith(ROOT):
                return await self._azure.answer(request, request_id)
            if is_googles(request.path):
                return await self._google.answer(request, request_id)
            if request.method == "GET" and request.path.startswith("/v1/models/"):
                return self._model(request)
            raise unknown_url(request.method, request.path)
        except Refused as refused:
            if refused.reason != INJECTED:
                self._account.stats.rejected[refused.reason] += 1
            headers = {**refused.headers, "x-request-id": request_id}
            return web.Response(
                body=refused.body(), status=refused.status, headers=headers, content_type="application/json"
            )

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        self._account.check_key(request.headers)
        return _json(model_list(self._account.config.models, int(self._clock.now().timestamp())))

    def _model(self, request: web.BaseRequest) -> web.StreamResponse:
        self._account.check_key(request.headers)
        name = request.path.removeprefix("/v1/models/")
        if not name.startswith("simulator/"):
            raise model_not_found(name)
        return _json(model_list((name,), int(self._clock.now().timestamp()))["data"][0])

    async def _health(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json({"status": "ok"})

    async def _stats(self, request: web.BaseRequest) -> web.StreamResponse:
        return _json(self.stats(detail=request.query.get("detail") in ("1", "true")))

    async def _config(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json(self._account.config.model_dump(mode="json", exclude={"api_key"}))

    async def _configure(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            changes = orjson.loads(await request.read())
            if not isinstance(changes, dict):
                raise bad_request("Send a JSON object of settings to change.", None, None)
            self.configure(**changes)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"Send a JSON object of settings to change: {error}.", None, None) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise bad_request(f"{name}: {first['msg']}", name, "invalid_value") from None
        return await self._config(request)

    async def _reset(self, _request: web.BaseRequest) -> web.StreamResponse:
        self.reset()
        return _json({"status": "ok"})


def _json(data: object) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """Aiohttp's request with room for long prompts. The five parameters are aiohttp's."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def serve(config: SimulatorConfig, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Run a simulator until SIGINT or SIGTERM; prints its address on stdout once it answers.

    Raises OSError when the port is taken.
    """
    asyncio.run(_serve(config, host, port))


async def _serve(config: SimulatorConfig, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Simulator(config, host=host, port=port) as simulator:
        sys.stdout.write(f"simulator listening on {simulator.base_url}\n")
        sys.stdout.flush()
        await stop.wait()
