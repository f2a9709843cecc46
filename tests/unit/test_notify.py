"""One notice at a run's end, over apprise's real json:// channel."""

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from batch_llm.engine.events import RunSummary
from batch_llm.errors import Cancelled, InputError, JournalFull
from batch_llm.job.model import Job
from batch_llm.notify import Notice, RunNotice, deliver, notice_of_error, notice_of_summary

# apprise looks for the module that Python is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@dataclass
class Channel:
    """A place that takes messages."""

    url: str = ""
    status: int = 200
    messages: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def channel() -> Iterator[Channel]:
    taken = Channel()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(taken.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        taken.url = f"json://user:planted-channel-pw@127.0.0.1:{server.server_address[1]}/hook"
        yield taken
        server.shutdown()


def job(*notify: str) -> Job:
    return Job.model_validate(
        {
            "name": "tone",
            "input": {"table": "a.csv", "key": ["id"]},
            "prompt": {"user": "{{ text }}"},
            "model": "simulator/small",
            "output": {"table": "tone"},
            "notify": list(notify),
        }
    )


def summary(**changes: Any) -> RunSummary:
    values: dict[str, Any] = {
        "job": "tone", "run_id": "tone-1", "rows": 100, "ok": 93, "failed": 7, "pending": 0, "cached": 0, "requests": 1,
        "attempts": 1, "input_tokens": 1, "output_tokens": 1, "cost_usd": Decimal("0.5"), "wall_s": 2.0,
        "output": "beige_tone", "failed_by_class": {"timeout": 2, "refused": 5},
    }  # fmt: skip
    return RunSummary(**{**values, **changes})


def test_a_finished_run_sends_one_notice(channel: Channel) -> None:
    """However often the job names the channel."""
    with RunNotice(job("${env:HOOK}", "${env:HOOK}"), {"HOOK": channel.url}) as notice:
        notice.summary = summary()
    (message,) = channel.messages
    assert message["title"] == "tone finished"
    assert message["message"] == (
        "100 rows: 93 ok, 7 failed, 0 pending\nfailed: refused 5, timeout 2\n"
        "cost 0.5000 USD, 2 s, output beige_tone\nrun tone-1"
    )
    assert [delivery.problem for delivery in notice.deliveries] == [None]


def test_a_run_that_an_error_ended_sends_one_notice_and_the_error_goes_on(channel: Channel) -> None:
    with pytest.raises(JournalFull), RunNotice(job("${env:HOOK}"), {"HOOK": channel.url}):
        raise JournalFull("the disk is full")
    (message,) = channel.messages
    assert message["title"] == "tone failed"
    assert "the disk is full" in message["message"]


def test_the_text_of_a_foreign_error_is_not_passed_on() -> None:
    """It may quote a row."""
    notice = notice_of_error("tone", ValueError("patient Jane Doe"))
    assert notice is not None
    assert notice.body.startswith("ValueError\n")


@pytest.mark.parametrize("error", [Cancelled("x"), InputError("no such column"), KeyboardInterrupt()])
def test_a_stop_by_the_user_and_a_run_that_never_began_send_nothing(error: BaseException) -> None:
    assert notice_of_error("tone", error) is None


@pytest.mark.parametrize("changes", [{"nothing_to_do": True}, {"stopped": "sample"}, {"stopped": "cancelled"}])
def test_an_end_that_is_no_news_sends_nothing(changes: dict[str, object]) -> None:
    assert notice_of_summary(summary(**changes)) is None


def test_an_early_stop_says_why_and_an_unknown_cost_is_not_zero() -> None:
    notice = notice_of_summary(summary(stopped="budget", failed=0, cost_usd=None, failed_by_class={}))
    assert notice is not None
    assert notice.title == "tone stopped early (budget)"
    assert "cost unknown" in notice.body
    assert not notice.good


@pytest.mark.parametrize(
    "value", [None, "no url at all: planted-channel-pw", "nosuchservice://planted-channel-pw@host", "refusing"]
)
def test_a_delivery_that_fails_is_told_without_the_url_and_fails_nothing(
    channel: Channel, value: str | None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    channel.status = 403
    environ = {} if value is None else {"HOOK": channel.url if value == "refusing" else value}
    with caplog.at_level(logging.DEBUG):
        (delivery,) = deliver(["${env:HOOK}"], Notice("t", "b", good=True), environ)
    assert delivery.problem
    assert delivery.reference == "${env:HOOK}"
    assert "planted" not in delivery.problem + caplog.text + "".join(capfd.readouterr())


def test_a_job_without_channels_resolves_nothing() -> None:
    with RunNotice(job(), {}) as notice:
        notice.summary = summary()
    assert notice.deliveries == []
