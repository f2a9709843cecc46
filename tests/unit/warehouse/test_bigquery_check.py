"""`check_dataset`, through the real client over the wire to an endpoint that speaks datasets.get."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from batch_llm.errors import WarehouseError
from batch_llm.warehouse.bigquery_check import check_dataset


@dataclass
class Endpoint:
    """What the endpoint answers, and what it was asked."""

    status: int = 200
    reason: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    state = Endpoint()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path.split("?")[0], self.headers.get("Authorization")))
            # Source: https://cloud.google.com/bigquery/docs/reference/rest/v2/datasets/get (read 2026-11-20)
            body: dict[str, object] = {
                "kind": "bigquery#dataset",
                "datasetReference": {"projectId": "research", "datasetId": "texts"},
                "location": "EU",
            }
            if state.status != 200:
                error = {"reason": state.reason, "message": f"about {state.reason}", "domain": "global"}
                body = {"error": {"code": state.status, "message": error["message"], "errors": [error]}}
            sent = json.dumps(body).encode()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        yield state
        server.shutdown()


def test_a_reachable_dataset_is_one_line(endpoint: Endpoint) -> None:
    """It names the dataset, where it is and the emulator, and was asked for without credentials."""
    line = check_dataset("research", "texts")
    assert line.startswith("BigQuery dataset research.texts is reachable (location EU, emulator at http://127.0.0.1:")
    assert endpoint.asked == [("/bigquery/v2/projects/research/datasets/texts", None)]


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (404, "notFound", "bq --location=EU mk --dataset research:texts"),
        (403, "accessDenied", "roles/bigquery.dataEditor"),
        (400, "invalid", "is the emulator running"),
    ],
)
def test_a_refusal_says_what_to_do(endpoint: Endpoint, status: int, reason: str, advice: str) -> None:
    endpoint.status, endpoint.reason = status, reason
    with pytest.raises(WarehouseError, match=r"research\.texts") as raised:
        check_dataset("research", "texts")
    assert advice in str(raised.value)
    assert len(endpoint.asked) == 1


def test_nobody_there_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(WarehouseError, match=r"is the emulator running at http://127\.0\.0\.1:9"):
        check_dataset("research", "texts")


def test_without_credentials_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    with pytest.raises(WarehouseError, match="gcloud auth application-default login"):
        check_dataset("research", "texts")
