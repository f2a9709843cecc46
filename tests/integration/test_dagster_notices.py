"""One notice per run, to the channel its job names, through a real HTTP hook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.partitions import partition_keys
from tests.integration.dagster_lab import Account, CodeLocation

# apprise 2.2 imports a module that Python 3.11 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


class Hook:
    """A team's chat, as apprise sees it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self._server.server_port}/team-token"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Hook:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with Hook() as opened:
        monkeypatch.setenv("TEAM_HOOK", opened.url)
        yield opened


@pytest.fixture
def location(tmp_path: Path, account: Account) -> CodeLocation:
    made = CodeLocation(tmp_path, account.base_url)
    made.table("input.parquet", 20)
    made.job(notify=["${env:TEAM_HOOK}"])
    return made


def tell(location: CodeLocation, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    """What the daemon does after a Dagster run ended; what the sensor said."""
    name = "notify_finished" if result.success else "notify_failed"
    ends = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
    (event,) = [event for event in result.all_events if event.event_type in ends]
    sensor = location.definitions().resolve_sensor_def(name)
    assert isinstance(sensor, dg.RunStatusSensorDefinition)
    with dg.build_run_status_sensor_context(
        sensor_name=name,
        dagster_instance=instance,
        dagster_run=instance.get_run_by_id(result.run_id) or result.dagster_run,
        dagster_event=event,
        resources={"settings": location.settings_resource},
    ) as context:
        skipped: Any = sensor(context)
    return str(skipped.skip_message)


def test_a_finished_run_sends_one_notice_and_its_slices_none(
    location: CodeLocation, instance: dg.DagsterInstance, hook: Hook
) -> None:
    tell(location, instance, location.execute(instance, "tone_run"))
    for key in partition_keys(location.record()):
        tell(location, instance, location.execute(instance, "tone_slices", partition_key=key))
    assert hook.messages == []
    result = location.execute(instance, "tone_output")
    said = tell(location, instance, result)
    (message,) = hook.messages
    assert message["title"] == "tone finished"
    assert "20 rows: 20 ok, 0 failed, 0 pending" in message["message"]
    assert "team-token" not in said, "a channel's address is a secret"


def test_a_failed_run_sends_one_notice_however_many_of_its_slices_fail(
    location: CodeLocation, instance: dg.DagsterInstance, account: Account, hook: Hook
) -> None:
    location.execute(instance, "tone_run")
    account.configure(quota_requests=0)
    tags = {"batch_llm/attempt": "one"}
    for key in partition_keys(location.record()):
        result = location.execute(instance, "tone_slices", partition_key=key, tags=tags)
        assert not result.success
        tell(location, instance, result)
    (message,) = hook.messages
    assert message["title"] == "tone failed"


def test_a_run_that_is_retried_is_not_told(location: CodeLocation, instance: dg.DagsterInstance, hook: Hook) -> None:
    """A crash that Dagster tries again is no end."""
    from sensors.notices import ended_run

    tags = {"batch_llm/run": "tone-1", "dagster/will_retry": "true"}
    assert ended_run(tags, dg.DagsterRunStatus.FAILURE) is None
    assert ended_run({"batch_llm/run": "tone-1"}, dg.DagsterRunStatus.FAILURE) == "tone-1"
    assert ended_run({"batch_llm/run": "tone-1"}, dg.DagsterRunStatus.SUCCESS) is None
