"""What `doctor` finds, and what it never prints."""

import asyncio
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_llm.cli.doctor import GIB, check_disk, check_home, check_providers, examine
from batch_llm.cli.doctor_services import Check, Verdict, check_clock, check_redis, skew_verdict
from batch_llm.config.providers_file import load_providers
from batch_llm.config.settings import IN_PROCESS, Settings
from batch_llm.limiter.private_redis import private_redis
from tests.odd_redis import Answer, info, odd_redis

Cli = Callable[..., Any]

PROVIDERS = """
providers:
  mine:
    kind: openai_compatible
    base_url: http://127.0.0.1:{port}/v1
    api_key: ${{env:MINE_KEY}}
    pools:
      - {{name: main, models: [m], limits: {{requests_per_minute: 600, tokens_per_minute: 200000}}}}
      - {{name: slow, models: [n], limits: unknown}}
"""


@pytest.fixture
def providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def write(port: int = 1) -> Path:
        path = tmp_path / "providers.yaml"
        path.write_text(PROVIDERS.format(port=port))
        monkeypatch.setenv("BATCH_LLM_PROVIDERS", str(path))
        return path

    return write


def named(checks: list[Check], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


def test_a_fresh_machine_is_good_enough_for_the_simulator(cli: Cli) -> None:
    """Exit 0; the missing OpenAI key is a warning, because nobody asked for OpenAI."""
    said = cli("doctor", "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["ok"]
    keys = [check for check in found["checks"] if check["name"] == "key"]
    assert {check["verdict"] for check in keys} == {"ok", "warning"}
    assert any("OPENAI_API_KEY" in check["found"] for check in keys)


def test_the_home_stays_untouched(cli: Cli, home: Path) -> None:
    assert cli("doctor").code == 0
    assert not list(home.iterdir())


def test_a_declared_key_that_is_missing_fails(cli: Cli, providers: Callable[..., Path]) -> None:
    providers()
    said = cli("doctor")
    assert said.code == 2
    assert "MINE_KEY" in said.out
    assert "must be mended" in said.out


def test_a_key_is_never_printed(cli: Cli, providers: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    providers()
    monkeypatch.setenv("MINE_KEY", "planted-doctor-key")
    for arguments in (["doctor"], ["doctor", "--json"]):
        said = cli(*arguments)
        assert said.code == 0
        assert "${env:MINE_KEY} is set" in said.out
        assert "planted-doctor-key" not in said.out + said.err


def test_the_declared_limits_are_listed(providers: Callable[..., Path]) -> None:
    checks = list(check_providers(load_providers(providers()), {"MINE_KEY": "x" * 8}, declared=True))
    assert [check.found for check in named(checks, "limits")] == [
        "mine:main (m): 600 requests per minute, 200,000 tokens per minute",
        "mine:slow (n): unknown (starts low and adapts)",
    ]


def test_a_wrong_providers_file_is_one_failed_check_among_others(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_LLM_PROVIDERS", str(tmp_path / "absent.yaml"))
    checks = list(examine(Settings.from_environment(), {}, online=False))
    (check,) = named(checks, "providers")
    assert check.verdict is Verdict.FAILED
    assert "absent.yaml" in check.found
    assert named(checks, "journal")


def test_little_disk_is_worth_a_warning(tmp_path: Path) -> None:
    assert check_disk(tmp_path, GIB - 1).verdict is Verdict.WARNING
    assert check_disk(tmp_path, GIB).verdict is Verdict.OK


def test_a_home_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert check_home(tmp_path / "file" / "home").verdict is Verdict.FAILED
    assert check_home(tmp_path / "not" / "yet").verdict is Verdict.OK


def saying(told: bytes) -> Answer:
    """A Redis that says this of itself and takes everything; scripts return true, packed."""

    def answer(sent: bytes, connection: socket.socket) -> bytes:
        if b"INFO" in sent:
            return told
        return b"$1\r\n\xc3\r\n" if b"EVAL" in sent else b"+OK\r\n"

    return answer


@pytest.mark.parametrize(("version", "verdict"), [("6.2.0", Verdict.OK), ("6.0.16", Verdict.FAILED)])
def test_redis_must_answer_and_be_new_enough(version: str, verdict: Verdict, tmp_path: Path) -> None:
    with odd_redis(saying(info(version))) as url:
        check = check_redis(Settings(home=tmp_path, redis_url=url))
    assert check.verdict is verdict
    assert version in check.found
    assert "planted" not in check.found


def test_a_redis_that_may_drop_our_keys_is_worth_a_warning(tmp_path: Path) -> None:
    told = info("7.0.0", maxmemory="1000000", maxmemory_policy="allkeys-lru")
    with odd_redis(saying(told)) as url:
        check = check_redis(Settings(home=tmp_path, redis_url=url))
    assert check.verdict is Verdict.WARNING
    assert "allkeys-lru" in check.found


def test_limits_inside_each_process_need_no_redis(tmp_path: Path) -> None:
    check = check_redis(Settings(home=tmp_path, redis_url=IN_PROCESS))
    assert check.verdict is Verdict.SKIPPED
    assert "do not share" in check.found


def test_the_homes_own_redis_is_looked_at_and_not_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    check = check_redis(Settings(home=home))
    assert check.verdict is Verdict.OK
    assert "redis-server" in check.found
    assert not home.exists()
    running = asyncio.run(_while_it_runs(home))
    assert running.verdict is Verdict.OK
    assert "answers, Redis 6.2" in running.found


async def _while_it_runs(home: Path) -> Check:
    async with private_redis(home):
        return await asyncio.to_thread(check_redis, Settings(home=home))


def test_redis_that_does_not_answer_is_told_without_its_password(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("BATCH_LLM_REDIS_URL", f"redis://:planted-redis-pw@127.0.0.1:{port}/0")
    said = cli("doctor")
    assert said.code == 2
    assert f"127.0.0.1:{port}/0 does not answer" in said.out
    assert "planted" not in said.out + said.err


class _Clock(http.server.BaseHTTPRequestHandler):
    """Answers 401, with a Date."""

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def dated_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Clock) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_the_clock_is_compared_only_when_asked(
    providers: Callable[..., Path], dated_server: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers(dated_server)
    settings = Settings.from_environment()
    (offline,) = named(list(examine(settings, {}, online=False)), "clock")
    (online,) = named(list(examine(settings, {}, online=True)), "clock")
    assert (offline.verdict, online.verdict) == (Verdict.SKIPPED, Verdict.OK)


def test_a_server_that_cannot_be_reached_fails_only_where_the_user_named_it(providers: Callable[..., Path]) -> None:
    file = load_providers(providers(port=1))
    assert [check.verdict for check in check_clock(file, declared=True)] == [Verdict.FAILED]
    assert [check.verdict for check in check_clock(file, declared=False)] == [Verdict.WARNING]


def test_a_clock_that_is_far_off_is_worth_a_warning() -> None:
    assert skew_verdict("mine", -61).verdict is Verdict.WARNING
    assert skew_verdict("mine", 59).verdict is Verdict.OK
