"""A strict fake of BigQuery (REST and the Storage Read API), in a process of its own on 127.0.0.1, for tests.

    from tests.bigquery_server.process import Fault, bigquery_server
    with bigquery_server(tmp_path) as server:
        client = server.client()                 # the real google-cloud-bigquery, or: server.environment, server.url
        server.faults(Fault("jobs.insert:load", kind="reset", when="after", calls=(1,)))
        server.log()                             # every call, as it came

Belongs here: starting and stopping it, what tests tell it. Not here: its behaviour.
It follows Google's documentation and what google-cloud-bigquery sends and reads. It was NEVER compared with the real
service; docs/reference/bigquery-fake.md says what that means. Everything it holds is gone when it is killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import orjson
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1.services.big_query_read import BigQueryReadClient
from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

from tests.bigquery_server.faults import Fault
from tests.bigquery_server.request_log import LOG_NAME, read_log
from tests.bigquery_server.service_account import write_service_account
from tests.ports import own_port

__all__ = ["BigQueryServer", "Fault", "bigquery_server"]

ROOT = Path(__file__).parents[2]
PROJECT = "fake-project"
READY_TRIES = 600  # times 50 ms


class BigQueryServer:
    """One server; what it holds ends with it."""

    project = PROJECT

    def __init__(self, folder: Path) -> None:
        """``folder``: for its logs and its service-account file."""
        self.folder = folder
        self.port = own_port()
        self.grpc_port = own_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_address(self) -> str:
        """Where its Storage Read API answers, without TLS."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client to it, with the credentials of a service account whose tokens it gives."""
        return {
            "BIGQUERY_EMULATOR_HOST": self.url,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.service_account),
        }

    @property
    def service_account(self) -> Path:
        """A service account's file; its tokens are of this server, and expire."""
        path = self.folder / "service-account.json"
        if not path.exists():
            write_service_account(path, self.project, f"{self.url}/token")
        return path

    def client(self, **options: Any) -> bigquery.Client:
        """The real client on this server, with anonymous credentials unless told otherwise; close it."""
        said = {"project": self.project, "credentials": AnonymousCredentials(), "location": "US"} | options
        return bigquery.Client(client_options=ClientOptions(api_endpoint=self.url), **said)

    def reader(self) -> BigQueryReadClient:
        """The real client of its Storage Read API; close its transport."""
        channel = grpc.insecure_channel(self.grpc_address)
        return BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=channel))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "tests.bigquery_server", "--port", str(self.port), "--grpc-port", str(self.grpc_port),
            "--folder", str(self.folder),
        ]  # fmt: skip
        with (self.folder / "bigquery.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(READY_TRIES):
            try:
                urllib.request.urlopen(f"{self.url}/fake/health", timeout=5).close()
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, (self.folder / "bigquery.log").read_text()
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("the fake of BigQuery does not answer")

    def kill(self) -> None:
        """kill -9: all it holds is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def faults(self, *rules: Fault) -> None:
        """These faults from now on, in the place of all others; their calls are counted from 1."""
        self._control("PUT", "faults", [asdict(each) for each in rules])

    def configure(self, **settings: Any) -> None:
        """Change settings (settings.py); ``limits={...}`` changes limits (limits.py)."""
        self._control("PATCH", "settings", settings)

    def advance(self, seconds: float) -> None:
        """Let time pass for the server."""
        self._control("POST", "clock", {"seconds": seconds})

    def reset(self) -> None:
        """As when it was started: no data, no jobs, no faults, no log, all settings as they are by default."""
        self._control("POST", "reset", {})

    def log(self) -> list[dict[str, Any]]:
        """Every call so far: method, path, query, operation, job_id, status, bytes_in, bytes_out, faults, seconds."""
        return read_log(self.folder) if (self.folder / LOG_NAME).exists() else []

    def _control(self, method: str, name: str, said: Any) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/fake/{name}", orjson.dumps(said), headers, method=method)
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def bigquery_server(folder: Path) -> Iterator[BigQueryServer]:
    """A running server without any dataset; killed at the end."""
    server = BigQueryServer(folder / "bigquery-server")
    try:
        server.start()
        yield server
    finally:
        server.kill()
