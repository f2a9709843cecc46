"""`dagster dev` as users start it, on the files of a `CodeLocation`: web server, daemon, code server, run workers.

Belongs here: its life and its GraphQL. Not here: assertions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.integration.dagster_lab import CodeLocation

__all__ = ["DagsterServer"]

ROOT = Path(__file__).parents[2]
READY_S = 180.0
LOCATION = "under_test"
LOOK_EVERY_S = 5  # of sensors that look every 10 to 30 s: what they find is tested, not how seldom they look
REPOSITORY = {"repositoryLocationName": LOCATION, "repositoryName": "__repository__"}

DEFINITIONS = """\
from pathlib import Path

from definitions import build_defs
from resources.settings import SettingsResource
from sensors import mirror, notices, watch

for each in (mirror, notices, watch):
    each.EVERY_S = {look_every_s}
root = Path({root!r})
defs = build_defs(
    job_files=sorted((root / "jobs").glob("*.yaml")),
    root=root,
    settings=SettingsResource(root=str(root), home=str(root / "home"), providers=str(root / "providers.yaml")),
)
"""

WORKSPACE = """\
load_from:
  - python_file: {{relative_path: under_test.py, working_directory: {root}, location_name: {location}}}
"""


class DagsterServer:
    """One instance; open it with ``with``."""

    def __init__(self, location: CodeLocation) -> None:
        self.location = location
        self.folder = location.folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._log = self.folder / "dagster.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.folder / "under_test.py").write_text(DEFINITIONS.format(root=str(self.folder), look_every_s=LOOK_EVERY_S))
        (self.folder / "workspace.yaml").write_text(WORKSPACE.format(root=json.dumps(str(ROOT)), location=LOCATION))
        shutil.copy(ROOT / "dagster.yaml", self.folder)
        port = self.url.rsplit(":", 1)[1]
        command = [str(Path(sys.executable).with_name("dagster")), "dev", "-w", "workspace.yaml"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-p", port],
                cwd=self.folder,
                env={**os.environ, "DAGSTER_HOME": str(self.folder), "PYTHONWARNINGS": "ignore"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for(self._is_up, READY_S, "the web server")
        return self

    def __exit__(self, *exc: object) -> None:
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else's processes
            process.wait(10)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """One query or mutation; its data."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url + "/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.load(answer)
        assert not result.get("errors"), result["errors"]
        return dict(result["data"])

    def launch(self, job: str, config: dict[str, Any] | None = None) -> str:
        """Launch a job as the Launchpad does; the run's id."""
        data = self.graphql(
            """mutation($p: ExecutionParams!) { launchRun(executionParams: $p) {
                 __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
                 ... on RunConfigValidationInvalid { errors { message } } } }""",
            p={"selector": {**REPOSITORY, "jobName": job}, "runConfigData": json.dumps(config or {})},
        )["launchRun"]
        assert data["__typename"] == "LaunchRunSuccess", data
        return str(data["run"]["runId"])

    def backfill(self, asset: str, partitions: list[str]) -> None:
        """Launch a backfill of an asset's partitions, as the UI's Materialize does."""
        data = self.graphql(
            """mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) {
                 __typename ... on PythonError { message } } }""",
            p={"assetSelection": [{"path": [asset]}], "partitionNames": partitions},
        )["launchPartitionBackfill"]
        assert data["__typename"] == "LaunchBackfillSuccess", data

    def command(self, *arguments: str) -> None:
        """Run `dagster` with these arguments beside the server, on the same instance."""
        subprocess.run(
            [str(Path(sys.executable).with_name("dagster")), *arguments],
            cwd=self.folder,
            env={**os.environ, "DAGSTER_HOME": str(self.folder), "PYTHONWARNINGS": "ignore"},
            check=True,
            capture_output=True,
        )

    def runs(self, job: str | None = None) -> list[dict[str, Any]]:
        """All runs, oldest first."""
        found: list[dict[str, Any]] = self.graphql(
            """query($f: RunsFilter) { runsOrError(filter: $f, limit: 200) { ... on Runs { results {
                 runId jobName status tags { key value } } } } }""",
            f={"pipelineName": job} if job else {},
        )["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in reversed(found)]

    def status(self, run_id: str) -> str:
        """A run's status."""
        return next(str(run["status"]) for run in self.runs() if run["runId"] == run_id)

    def terminate(self, run_id: str) -> None:
        """What the UI's Terminate button sends."""
        self.graphql(
            """mutation($r: String!) { terminateRun(runId: $r) { __typename
                 ... on TerminateRunFailure { message } } }""",
            r=run_id,
        )

    def start_sensor(self, name: str) -> None:
        """Switch a sensor on."""
        data = self.graphql(
            """mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename
                 ... on PythonError { message } } }""",
            s={**REPOSITORY, "sensorName": name},
        )
        assert data["startSensor"]["__typename"] == "Sensor", data

    def start_schedule(self, name: str) -> None:
        """Switch a schedule on."""
        data = self.graphql(
            """mutation($s: ScheduleSelector!) { startSchedule(scheduleSelector: $s) { __typename
                 ... on PythonError { message } } }""",
            s={**REPOSITORY, "scheduleName": name},
        )
        assert data["startSchedule"]["__typename"] == "ScheduleStateResult", data

    def stop_schedule(self, name: str) -> None:
        """Switch a schedule off."""
        state = self.graphql(
            """query($s: ScheduleSelector!) { scheduleOrError(scheduleSelector: $s) { ... on Schedule {
                 scheduleState { id } } } }""",
            s={**REPOSITORY, "scheduleName": name},
        )["scheduleOrError"]["scheduleState"]
        self.graphql("mutation($i: String!) { stopRunningSchedule(id: $i) { __typename } }", i=state["id"])

    def materializations(self, *asset: str) -> int:
        """How often an asset was materialized."""
        data = self.graphql(
            """query($k: AssetKeyInput!) { assetOrError(assetKey: $k) { ... on Asset {
                 assetMaterializations { timestamp } } } }""",
            k={"path": list(asset)},
        )["assetOrError"]
        return len(data.get("assetMaterializations", []))

    def partitions(self, asset: str) -> set[str]:
        """The partitions of an asset that were materialized."""
        data = self.graphql(
            """query($k: AssetKeyInput!) { assetOrError(assetKey: $k) { ... on Asset {
                 assetMaterializations { partition } } } }""",
            k={"path": [asset]},
        )["assetOrError"]
        return {each["partition"] for each in data.get("assetMaterializations", [])}

    def worker_pid(self, run_id: str) -> int | None:
        """The process that works on a run, once its step runs."""
        events = self.graphql(
            """query($r: ID!) { logsForRun(runId: $r) { ... on EventConnection { events {
                 ... on MessageEvent { message } } } } }""",
            r=run_id,
        )["logsForRun"]["events"]
        found = [re.search(r"Executing steps in process \(pid: (\d+)\)", event.get("message", "")) for event in events]
        return next((int(match[1]) for match in found if match), None)

    def wait_for(self, condition: Callable[[], Any], within_s: float, what: str) -> Any:
        """Poll until the condition holds; its value."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.5)
        raise AssertionError(f"{what}: not within {within_s:.0f} s\n{self._log.read_text()[-4000:]}")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(self.url + "/server_info", timeout=5):
                pass
            data = self.graphql("{ instance { daemonHealth { allDaemonStatuses { healthy required } } } }")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        statuses = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return all(status["healthy"] for status in statuses if status["required"])
