"""Uploads of load jobs: multipart in one call, resumable in chunks.

Belongs here: the two protocols. Not here: the load (loading.py).
Sources: https://cloud.google.com/bigquery/docs/reference/api-uploads (read 2026-11-28); what is sent was observed in
google-cloud-bigquery 3.47 and google-resumable-media 2.x.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import orjson

from tests.bigquery_server import running
from tests.bigquery_server.calls import Call, Reply
from tests.bigquery_server.errors import ApiError, invalid
from tests.bigquery_server.running import JobOrder
from tests.bigquery_server.state import State
from tests.bigquery_server.upload import Upload

__all__ = ["multipart_parts", "put", "start"]

CHUNK_MULTIPLE_BYTES = 256 * 1024
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
INCOMPLETE = 308


def start(state: State, call: Call) -> Reply:
    """POST to the upload path: a whole multipart upload, or the beginning of a resumable one."""
    kind = call.query.get("uploadType")
    if kind == "multipart":
        said, data = multipart_parts(call)
        return _inserted(state, JobOrder(call.path["project"], said, data, call.job_error))
    if kind != "resumable":
        raise invalid(f"Unsupported uploadType: {kind}", "uploadType")
    _check_load(call.json)
    upload_id = uuid.uuid4().hex
    state.uploads[upload_id] = Upload(call.path["project"], call.json)
    path = f"/upload/bigquery/v2/projects/{call.path['project']}/jobs"
    where = f"{call.base_url}{path}?uploadType=resumable&upload_id={upload_id}"
    return Reply({}, headers={"Location": where, "X-GUploader-UploadID": upload_id})


def _check_load(said: Any) -> None:
    if "load" not in (said.get("configuration") or {}):
        raise invalid("An upload must be of a load job", "configuration.load")


def _inserted(state: State, order: JobOrder) -> Reply:
    _check_load(order.said)
    job = running.insert(state, order)
    return Reply(job.to_json(), job_id=job.ref.job_id)


def multipart_parts(call: Call) -> tuple[dict[str, Any], bytes]:
    """The job's JSON and the data of a multipart/related body."""
    found = re.search(r'boundary="?([^";]+)"?', call.headers.get("content-type", ""))
    if found is None:
        raise invalid("A multipart upload must have a boundary", "Content-Type")
    pieces = call.body.split(b"--" + found.group(1).encode())
    parts = [piece.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for piece in pieces[1:-1]]
    if len(parts) != 2 or pieces[-1].strip() != b"--":
        raise invalid("A multipart upload must have two parts: the job, the data", "Content-Type")
    return orjson.loads(parts[0]), parts[1]


def put(state: State, call: Call) -> Reply:
    """PUT to the place a resumable upload was given: a chunk, or the question how much has come."""
    upload = state.uploads.get(call.query.get("upload_id", ""))
    if upload is None:
        raise ApiError("notFound", "Not found: no such upload, or its time is over", status=404)
    if upload.answer is not None:
        return Reply(upload.answer, job_id=upload.job_id)
    found = RANGE.fullmatch(call.headers.get("content-range", ""))
    if found is None:
        raise invalid("Invalid Content-Range", "Content-Range")
    first, last, total = found.groups()
    if first is not None:
        _take(upload, call.body, int(first), int(last))
    complete = total != "*" and len(upload.data) == int(total)
    if not complete:
        if first is not None and len(call.body) % CHUNK_MULTIPLE_BYTES:
            raise invalid("Chunks must be multiples of 256 KiB, but for the last", "Content-Range")
        return _so_far(upload)
    reply = _inserted(state, JobOrder(upload.project, upload.said, bytes(upload.data), call.job_error))
    upload.answer, upload.job_id = reply.body, reply.job_id
    upload.data = bytearray()
    return reply


def _take(upload: Upload, chunk: bytes, first: int, last: int) -> None:
    if last - first + 1 != len(chunk):
        raise invalid("Content-Range does not fit the length of the body", "Content-Range")
    if first > len(upload.data):
        raise invalid(f"Content-Range begins at {first}, but {len(upload.data)} bytes have come", "Content-Range")
    upload.data[first:] = chunk


def _so_far(upload: Upload) -> Reply:
    return Reply(None, INCOMPLETE, {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {})
