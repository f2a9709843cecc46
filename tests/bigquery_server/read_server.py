"""The Storage Read API over gRPC, beside REST: calls in, messages out, faults between, a line in the log.

Belongs here: grpcio, status codes, injected faults. Not here: what a session is (read_sessions.py). The protos are
google-cloud-bigquery-storage's. Without TLS no client sends a token, so none is asked for.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.cloud.bigquery_storage_v1 import types

from tests.bigquery_server import read_sessions, running
from tests.bigquery_server.errors import ApiError
from tests.bigquery_server.faults import Fault

if TYPE_CHECKING:
    from tests.bigquery_server.server import Server

__all__ = ["CREATE", "READ", "ReadServer"]

SERVICE = "google.cloud.bigquery.storage.v1.BigQueryRead"
CREATE, READ = "storage.createReadSession", "storage.readRows"  # as faults and the log name them
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

# Source: https://cloud.google.com/apis/design/errors#error_mapping and the codes in the sources of read_sessions.py
# (read 2026-11-29)
CODES = {
    "accessDenied": grpc.StatusCode.PERMISSION_DENIED,
    "backendError": grpc.StatusCode.UNAVAILABLE,
    "conditionNotMet": grpc.StatusCode.FAILED_PRECONDITION,
    "internalError": grpc.StatusCode.INTERNAL,
    "notFound": grpc.StatusCode.NOT_FOUND,
    "notImplemented": grpc.StatusCode.UNIMPLEMENTED,
    "quotaExceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "rateLimitExceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class ReadServer:
    """The service of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._grpc: grpc.aio.Server | None = None

    async def start(self, port: int) -> None:
        """Answer on 127.0.0.1."""
        handlers = {
            "CreateReadSession": grpc.unary_unary_rpc_method_handler(
                self._create, types.CreateReadSessionRequest.deserialize, types.ReadSession.serialize
            ),
            "ReadRows": grpc.unary_stream_rpc_method_handler(
                self._read, types.ReadRowsRequest.deserialize, types.ReadRowsResponse.serialize
            ),
        }
        self._grpc = grpc.aio.server(options=UNLIMITED)
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._grpc.add_insecure_port(f"127.0.0.1:{port}")
        await self._grpc.start()

    async def _create(self, said: types.CreateReadSessionRequest, context: Any) -> types.ReadSession:
        faults = self._server.faults.of(CREATE)
        asked = {
            "table": said.read_session.table,
            "fields": list(said.read_session.read_options.selected_fields),
            "restriction": said.read_session.read_options.row_restriction,
            "streams": said.max_stream_count,
        }
        call = _Call(self._server, context, CREATE, asked, faults)
        await call.spoilt("before")
        made: types.ReadSession = await call.work(read_sessions.create, said)
        await call.spoilt("after")
        call.log("OK")
        return made

    async def _read(self, said: types.ReadRowsRequest, context: Any) -> AsyncIterator[types.ReadRowsResponse]:
        faults = self._server.faults.of(READ)
        call = _Call(self._server, context, READ, {"stream": said.read_stream, "offset": said.offset}, faults)
        place = await call.work(read_sessions.place_of, said)
        sent = 0
        while True:
            await call.spoilt("before", sent)
            message, place = await call.work(read_sessions.next_message, place)
            if message is None:
                break
            yield message
            sent += 1
        await call.spoilt("after")
        call.log("OK", messages=sent)


class _Call:
    """One call, until it is logged."""

    def __init__(
        self, server: Server, context: Any, operation: str, asked: dict[str, Any], faults: list[Fault]
    ) -> None:
        self._server, self._context, self._operation = server, context, operation
        self._asked, self._faults = asked, faults

    async def work(self, do: Callable[..., Any], said: Any) -> Any:
        """Do it in the one thread of all work; what it refuses is the end of the call."""
        try:
            return await self._server.in_worker(self._done, do, said)
        except ApiError as error:
            await self._fail(CODES.get(error.reason, grpc.StatusCode.INVALID_ARGUMENT), error.message)

    def _done(self, do: Callable[..., Any], said: Any) -> Any:
        try:
            running.run_due(self._server.state)
            return do(self._server.state, said)
        except ApiError:
            raise
        except Exception as error:
            told = f"A fault of this fake of BigQuery in {self._operation}:\n{traceback.format_exc()}"
            raise ApiError("notImplemented", told) from error

    async def spoilt(self, when: str, sent: int = 0) -> None:
        """What a test asked for at this moment, after so many messages."""
        for fault in self._faults:
            if fault.kind == "delay" and not sent and when == "before":
                await asyncio.sleep(fault.delay_s)
            elif fault.when == when and fault.kind in ("http", "body", "reset") and fault.messages <= sent:
                known = CODES.get(fault.reason, grpc.StatusCode.INVALID_ARGUMENT)
                await self._fail(known if fault.kind == "http" else grpc.StatusCode.UNAVAILABLE, fault.message)

    async def _fail(self, code: grpc.StatusCode, message: str) -> NoReturn:
        self.log(code.name)
        await self._context.abort(code, message)
        raise AssertionError("abort raises")

    def log(self, status: str, **more: Any) -> None:
        """Write the call's line."""
        told = {"method": "gRPC", "operation": self._operation, "query": self._asked, "status": status, "job_id": None}
        faults = [f"{each.kind} {each.when}" for each in self._faults]
        self._server.log.write({**told, "path": SERVICE, "faults": faults, **more})
