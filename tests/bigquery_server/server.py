"""BigQuery's REST API over HTTP: calls in, answers out, faults between, a line in the log.

Belongs here: aiohttp, the one thread in which all work is done, injected faults, the control routes under `/fake/`.
Not here: what a call does (the `*_api.py` files), gRPC (read_server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from tests.bigquery_server import permissions, running
from tests.bigquery_server.calls import Call, Handler, Reply
from tests.bigquery_server.errors import STATUS_OF_REASON, ApiError
from tests.bigquery_server.faults import Fault, Faults
from tests.bigquery_server.read_server import ReadServer
from tests.bigquery_server.request_log import RequestLog
from tests.bigquery_server.routes import ROUTES
from tests.bigquery_server.state import State
from tests.bigquery_server.storage import Storage
from tests.bigquery_server.uploads_api import multipart_parts

__all__ = ["Server"]

MAX_BODY_BYTES = 1 << 30
POLL_S = 0.02
MAX_WAIT_S = 10.0  # getQueryResults and jobs.query wait that long for the job unless told otherwise


class Server:
    """One server's routes."""

    def __init__(self, folder: Path, grpc_port: int) -> None:
        self._folder = folder
        self._grpc_port = grpc_port
        self.state = State(Storage(folder / "spill"))
        self.faults = Faults()
        self.log = RequestLog(folder)
        self._worker = ThreadPoolExecutor(1)

    def app(self) -> web.Application:
        """What aiohttp runs."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        for method, path, operation, handler in ROUTES:
            app.router.add_route(method, path, self._route(operation, handler))
        app.router.add_post("/token", self._token)
        app.router.add_get("/fake/health", self._health)
        app.router.add_put("/fake/faults", self._put_faults)
        app.router.add_patch("/fake/settings", self._configure)
        app.router.add_post("/fake/clock", self._advance)
        app.router.add_post("/fake/reset", self._reset)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        app.on_startup.append(self._start_reads)
        return app

    async def _start_reads(self, app: web.Application) -> None:
        await ReadServer(self).start(self._grpc_port)

    def _route(self, operation: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            call = Call(
                operation, dict(request.match_info), dict(request.query),
                {name.lower(): value for name, value in request.headers.items()}, body,
                f"http://{request.host}",
            )  # fmt: skip
            return await self._answer(request, call, handler)

        return answer

    async def _answer(self, request: web.Request, call: Call, handler: Handler) -> web.StreamResponse:
        operation, job_id = _operation(call)
        faults = self.faults.of(operation)
        began = time.monotonic()
        response, shown = await self._with_faults(request, call, handler, faults)
        self.log.write(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "operation": operation,
                "job_id": shown or job_id,
                "status": response.status if response is not None else None,
                "bytes_in": len(call.body),
                "bytes_out": response.content_length or 0 if response is not None else 0,
                "faults": [f"{each.kind} {each.when}" for each in faults],
                "seconds": round(time.monotonic() - began, 4),
            }
        )
        if response is None:
            _cut_off(request)
            return web.Response(status=500)
        return response

    async def _with_faults(
        self, request: web.Request, call: Call, handler: Handler, faults: list[Fault]
    ) -> tuple[web.Response | None, str | None]:
        """The answer (None: the connection is cut) and the id of the job it speaks of."""
        for fault in faults:
            if fault.when == "before" and fault.kind in SPOILS:
                return await SPOILS[fault.kind](fault), None
            if fault.kind == "job":
                call = replace(call, job_error=ApiError(fault.reason, fault.message))
            elif fault.kind == "token":
                self.state.tokens.end_all()
        reply = await self._waited(call, handler)
        response = _response(reply)
        for fault in faults:
            if fault.kind == "delay":
                await asyncio.sleep(fault.delay_s)
            elif fault.when == "after" and fault.kind in SPOILS:
                return await SPOILS[fault.kind](fault), reply.job_id
        return response, reply.job_id

    async def _waited(self, call: Call, handler: Handler) -> Reply:
        """The reply; a query's result is waited for, for as long as the caller said."""
        reply = await self._work(call, handler)
        if call.operation not in ("jobs.getQueryResults", "jobs.query"):
            return reply
        said = call.query.get("timeoutMs") or (orjson.loads(call.body) if call.body else {}).get("timeoutMs")
        until = time.monotonic() + min(MAX_WAIT_S, MAX_WAIT_S if said is None else int(said) / 1000)
        while (reply.body or {}).get("jobComplete") is False and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
            reply = await self._work(call, handler)
        return reply

    async def in_worker(self, do: Callable[..., Any], *args: Any) -> Any:
        """Do something in the thread that does all work."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, do, *args)

    async def _work(self, call: Call, handler: Handler) -> Reply:
        return await self.in_worker(self._done, call, handler)  # type: ignore[no-any-return]

    def _done(self, call: Call, handler: Handler) -> Reply:
        state = self.state
        try:
            state.tokens.check(call.headers.get("authorization"), required=state.settings.require_token)
            running.run_due(state)
            permissions.check(state, call)
            return handler(state, call)
        except ApiError as error:
            return Reply(error.body(), error.status)
        except Exception:  # noqa: BLE001 - a fault of this fake must say so, and not be tried again by the client
            told = f"A fault of this fake of BigQuery in {call.operation}:\n{traceback.format_exc()}"
            return Reply(ApiError("notImplemented", told).body(), 501)

    # ---- beside the API

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not form.get("assertion"):
            return web.json_response({"error": "invalid_request"}, status=400)
        token_s = self.state.settings.token_s
        given = {"access_token": self.state.tokens.give(token_s), "expires_in": int(token_s), "token_type": "Bearer"}
        return web.json_response(given)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    async def _put_faults(self, request: web.Request) -> web.Response:
        said: list[dict[str, Any]] = await request.json()
        self.faults.put(tuple(Fault(**{**each, "calls": tuple(each.get("calls") or ())}) for each in said))
        return web.json_response({})

    async def _configure(self, request: web.Request) -> web.Response:
        said: dict[str, Any] = await request.json()
        limits = said.pop("limits", {})
        if "missing_permissions" in said:
            said["missing_permissions"] = tuple(said["missing_permissions"])
        self.state.settings = replace(self.state.settings, **said)
        self.state.limits = replace(self.state.limits, **limits)
        return web.json_response(asdict(self.state.settings) | {"limits": asdict(self.state.limits)})

    async def _advance(self, request: web.Request) -> web.Response:
        self.state.clock.advance(float((await request.json())["seconds"]))
        return web.json_response({"now_ms": self.state.clock.now_ms()})

    async def _reset(self, request: web.Request) -> web.Response:
        await self.in_worker(self._forget)
        return web.json_response({})

    def _forget(self) -> None:
        self.state, self.faults = State(Storage(self._folder / "spill")), Faults()
        self.log.clear()

    async def _unknown(self, request: web.Request) -> web.Response:
        told = f"This fake of BigQuery has no {request.method} {request.path}"
        self.log.write({"method": request.method, "path": request.path, "operation": None, "status": 501})
        return _response(Reply(ApiError("notImplemented", told).body(), 501))


def _operation(call: Call) -> tuple[str, str | None]:
    """The operation as faults and the log name it: an insert with the kind of its job, and the job's id."""
    job_id = call.path.get("job")
    if call.operation != "jobs.insert":
        return call.operation, job_id
    with contextlib.suppress(ApiError, ValueError):
        multipart = call.query.get("uploadType") == "multipart"
        said = multipart_parts(call)[0] if multipart else call.json
        job_id = (said.get("jobReference") or {}).get("jobId")
        kinds = [each for each in ("load", "query", "copy", "extract") if each in (said.get("configuration") or {})]
        resumable = call.query.get("uploadType") == "resumable"
        return ("jobs.startUpload" if resumable else f"jobs.insert:{kinds[0]}"), job_id
    return call.operation, job_id


def _response(reply: Reply) -> web.Response:
    body = b"" if reply.body is None else orjson.dumps(reply.body)
    headers = dict(reply.headers) | ({"Content-Type": "application/json; charset=UTF-8"} if body else {})
    return web.Response(status=reply.status, body=body, headers=headers)


def _cut_off(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _http(fault: Fault) -> web.Response:
    status = fault.status or STATUS_OF_REASON.get(fault.reason, 500)
    return _response(Reply(ApiError(fault.reason, fault.message, status=status).body(), status))


async def _body(fault: Fault) -> web.Response:
    return web.Response(status=fault.status or 502, text=fault.body, content_type="text/html")


async def _cut(fault: Fault) -> None:
    return None


SPOILS: dict[str, Callable[[Fault], Awaitable[web.Response | None]]] = {"http": _http, "body": _body, "reset": _cut}
