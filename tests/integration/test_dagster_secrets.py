"""A key in a failing run, through every kind of provider: no page, no log, no table and no file of Dagster's holds it.

The provider is the worst one: it says in each refusal what it was sent, with the key.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from aiohttp import web

from assets.partitions import partition_keys
from tests.integration.dagster_lab import CodeLocation
from tests.local_server import served

KEY = "sk-" + "planted-9876543210-abcdefghij"
ESCAPED_HERE = "and escaped"  # where the key stands once more, as other JSON writers write it
KINDS: dict[str, dict[str, Any]] = {
    "openai": {},
    "openai_compatible": {},
    "anthropic": {},
    "azure": {"deployment": "small"},
    "azure, dated": {"deployment": "small", "api_version": "2024-10-21"},
    "google": {},
}
POOL = {"models": ["small"], "limits": {"requests_per_minute": 6_000}, "prices": {"input": "1.00", "output": "2.00"}}


@contextmanager
def echoing(status: int) -> Iterator[str]:
    """A provider that refuses whatever it is asked and repeats it: the address, the headers."""

    async def refuse(request: web.Request) -> web.Response:
        said = f"refused: {request.url} {dict(request.headers)}"
        code = {401: ("authentication_error", "invalid_api_key"), 400: ("invalid_request_error", "bad")}[status]
        error = {"message": f"{said} {ESCAPED_HERE}", "type": code[0], "code": code[1]}
        body = json.dumps({"type": "error", "error": error}).replace(ESCAPED_HERE, KEY.replace("-", "\\u002D"))
        return web.Response(text=body, content_type="application/json", status=status)

    async def live() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", refuse)
        async with served(app, shutdown_s=1.0) as address:
            found.append(address)
            opened.set()
            await asyncio.to_thread(closing.wait)

    found: list[str] = []
    opened, closing = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert opened.wait(30)
    try:
        yield f"http://{found[0]}"
    finally:
        closing.set()
        thread.join(30)


@pytest.mark.parametrize("status", [401, 400])
@pytest.mark.parametrize("kind", list(KINDS))
def test_nothing_that_dagster_shows_or_keeps_holds_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, status: int
) -> None:
    """401: the run stops; 400: each row fails, and says why in the output."""
    monkeypatch.setenv("PLANTED_KEY", KEY)
    pages = tmp_path / "dagster"
    pages.mkdir()
    with echoing(status) as address, dg.DagsterInstance.local_temp(str(pages)) as instance:
        location = CodeLocation(tmp_path, address)
        spec = {"kind": kind.split(",", maxsplit=1)[0], "base_url": address, "api_key": "${env:PLANTED_KEY}"}
        providers = {"vendor": {**spec, "pools": [{**POOL, **KINDS[kind]}]}}
        (tmp_path / "providers.yaml").write_text(yaml.safe_dump({"providers": providers}))
        location.table("input.parquet", 5)
        location.job(model="vendor/small", samples="rows")
        assert location.execute(instance, "tone_run").success
        (key,) = partition_keys(location.record())
        result = location.execute(instance, "tone_slices", partition_key=key)
        assert location.execute(instance, "tone_output").success or status == 401
        told = " ".join(str(record) for run in instance.get_run_ids() for record in instance.all_logs(run))
        assert KEY not in told
        assert result.success == (status == 400)
    if status == 400:
        told = " ".join(str(row["llm_error"]) for row in location.rows("tone_out"))
    assert "refused" in told, "what the provider said is shown"
    assert KEY not in told
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert not holding
