"""`batch-llm limits`: the page of made-up views, the object, and what may be typed."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batch_llm.cli.limits import as_json, pairs
from batch_llm.cli.limits_page import drawn, in_words
from batch_llm.errors import ConfigurationError
from batch_llm.limiter.base import DimensionView, PoolView, TenantView
from batch_llm.limiter.control import LimitsView
from batch_llm.limiter.ledger import ScopeView

Cli = Callable[..., Any]

REQUESTS = DimensionView("requests", 10_000, 7_000, 6_950.4, changed_by_hand=True)
TOKENS = DimensionView("tokens", None, 2_000_000, 1_240_000, learned=True)
CONCURRENCY = DimensionView("concurrency", 50, 50, 12)
DAY = DimensionView("requests_per_day", 200, 200, 200)
ALICE = TenantView("alice", "tones", "normal", 2.0, 1.0, 2 / 3, 12_345, 2)
BOB = TenantView("bob", "grades\x1b[2J [red]", "high", 1.0, 0.5, 1 / 3, 0, 1)
BUSY = PoolView("openai:main", (REQUESTS, TOKENS, CONCURRENCY), (ALICE, BOB))
IDLE = PoolView("simulator:main", (DimensionView("requests", 600, 600, 0),), ())
PAUSED = PoolView("openai:slow", (DAY,), (BOB,), paused_for_s=4_000, why="the provider's day is used up")
MONEY = (
    ScopeView("run:tones-20260101-000000-abcd", Decimal(25), Decimal("1.20"), Decimal("0.30")),
    ScopeView("user:alice", Decimal(100), Decimal(50), Decimal("0.30")),
    ScopeView("user:alice:2026-01-01", Decimal(10), Decimal(10), Decimal(0)),
    ScopeView("user:bob", None, Decimal(0), Decimal(0)),
    ScopeView("day:2026-01-01", None, Decimal("51.20"), Decimal("0.30")),
)
VIEW = LimitsView("the home's private Redis", (BUSY, IDLE, PAUSED), MONEY)


def on_a_terminal(view: LimitsView, trouble: str = "", width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(drawn(view, trouble))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def line_of(text: str, *words: str) -> str:
    """The only line that has all these words, blanks made single."""
    (found,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return " ".join(found.replace("━", " ").replace("╸", " ").replace("╺", " ").split())


@pytest.mark.parametrize("page", [in_words, on_a_terminal])
def test_a_pool_shows_each_limit_who_shares_it_and_why_it_differs(page: Callable[[LimitsView], str]) -> None:
    text = page(VIEW)
    assert line_of(text, "requests per minute", "10,000").endswith("10,000 7,000 6,950 99% changed by hand")
    assert line_of(text, "tokens per minute").endswith("unknown 2.0M 1.2M 62% learned from the provider")
    assert line_of(text, "requests at once").endswith("50 50 12 24%")
    assert line_of(text, "alice", "tones").endswith("alice 2 tones 1 normal 67% 12,345 2")
    assert text.count("0.5  ") == text.count("high") == 2
    assert "openai:slow" in text and "paused for 1 h 06 min" in text and "the provider's day is used up" in text
    assert "nobody" in line_of(text, "simulator:main")


@pytest.mark.parametrize("page", [in_words, on_a_terminal])
def test_money_is_told_by_run_user_and_day(page: Callable[[LimitsView], str]) -> None:
    """Who has neither a cap nor spent anything is left out."""
    text = page(VIEW)
    assert line_of(text, "run tones-20260101").endswith("$25.00 $1.20 $0.3000 6%")
    assert line_of(text, "alice, in all").endswith("$100.00 $50.00 $0.3000 50%")
    assert line_of(text, "alice on 2026-01-01 (UTC)").endswith("$10.00 $10.00 $0.00 100%")
    assert line_of(text, "everybody on 2026-01-01 (UTC)").endswith("no cap $51.20 $0.3000")
    assert "bob, in all" not in text


def test_no_name_steers_the_terminal() -> None:
    """Neither control characters nor markup in a job's name."""
    text = on_a_terminal(VIEW)
    assert "\x1b" not in text and "[red]" in text


def test_a_narrow_terminal_is_enough() -> None:
    assert all(len(line) <= 60 for line in on_a_terminal(VIEW, width=60).splitlines())


def test_a_page_that_is_not_up_to_date_says_so() -> None:
    assert "Redis at redis://host:6379/0 does not answer" in on_a_terminal(
        VIEW, "Redis at redis://host:6379/0 does not answer"
    )


def test_a_provider_that_says_what_is_declared_is_not_worth_a_word() -> None:
    told = PoolView("a:b", (DimensionView("requests", 600, 600, 0, learned=True),), ())
    less = PoolView("a:b", (DimensionView("requests", 600, 500, 0, learned=True),), ())
    assert "learned" not in in_words(LimitsView(None, (told,), ()))
    assert "learned from the provider" in in_words(LimitsView(None, (less,), ()))


def test_a_slowed_pool_says_so() -> None:
    slowed = PoolView("a:b", (REQUESTS,), (ALICE,), why="slowed down to 70% after 429s", factor=0.7)
    assert "slowed down to 70%" in line_of(in_words(LimitsView(None, (slowed,), ())), "a:b")


def test_the_object_calls_limits_as_the_providers_file_does() -> None:
    found = as_json(VIEW)
    assert [one["name"] for one in found["pools"][0]["limits"]] == [
        "requests_per_minute", "tokens_per_minute", "max_concurrency",
    ]  # fmt: skip
    assert found["pools"][2]["limits"][0]["name"] == "requests_per_day"
    assert found["pools"][0]["tenants"][0] == {
        "user": "alice", "job": "tones", "priority": "normal", "user_weight": 2.0, "job_weight": 1.0, "share": 2 / 3,
        "waiting": 12_345, "processes": 2,
    }  # fmt: skip
    assert found["budgets"][0] == {
        "scope": "run:tones-20260101-000000-abcd", "cap_usd": Decimal(25), "spent_usd": Decimal("1.20"),
        "reserved_usd": Decimal("0.30"),
    }  # fmt: skip


def test_a_home_where_nobody_calls_shows_the_declared_limits_and_stays_as_it_is(cli: Cli, home: Path) -> None:
    """No Redis is started to look."""
    said = cli("limits")
    assert said.code == 0
    assert "Nobody is calling" in said.out
    assert line_of(said.out, "requests per minute", "600").endswith("600 600 0 0%")
    assert line_of(said.out, "requests per minute", "unknown").endswith("unknown 60 0 0%")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["openai:main", "openai"])
def test_one_pool_as_an_object(cli: Cli, name: str) -> None:
    said = cli("limits", name, "--json")
    (line,) = said.out.splitlines()
    found = json.loads(line)
    assert [pool["pool"] for pool in found["pools"]] == ["openai:main"]
    assert (found["where"], found["budgets"]) == (None, [])
    assert said.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["openai:mian"], "no pool 'openai:mian'.*did you mean 'openai:main'.*pools: openai:main, simulator:main"),
        (["main"], "'main' may mean openai:main, simulator:main; write the whole name"),
        (["set", "simulator:main"], "nothing to change"),
        (["set", "simulator:main", "request_per_minute=5"], "no limit.*did you mean 'requests_per_minute'"),
        (["set", "simulator:main", "rpm=5"], "did you mean 'requests_per_minute'"),
        (["set", "simulator:main", "tokens=5"], "the unit is missing"),
        (["set", "simulator:main", "tokens_per_day=5"], "declares no tokens_per_day.*requests_per_minute"),
        (["set", "simulator:main", "requests_per_minute=fast"], "must be a number, or `none`.*'fast'"),
        (["set", "simulator:main", "requests_per_minute=0"], "must be a number above 0.*got 0"),
        (["set", "simulator:main", "requests_per_minute=nan"], "must be a number above 0.*got nan"),
        (["set", "simulator:main", "requests_per_minute"], "'requests_per_minute' is not NAME=VALUE"),
        (["set", "simulator:main", "tokens_per_minute=1", "tokens_per_minute=2"], "given twice"),
        (["set", "simulator:main", "--user", "alice"], "'alice' is not NAME=WEIGHT"),
        (["set", "simulator:main", "--user", "alice=-1"], "weight of user 'alice'.*above 0.*got -1"),
        (["set", "nowhere", "requests_per_minute=5"], "no pool 'nowhere'"),
        (["budget"], "nothing to change"),
        (["budget", "--per-day", "much"], "--per-day must be US dollars.*'much'"),
        (["budget", "--user", "alice"], "'alice' is not NAME=USD"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    cli: Cli, home: Path, arguments: list[str], message: str
) -> None:
    said = cli("limits", *arguments)
    assert said.code == 2 and said.out == ""
    assert re.search(message, said.err, re.DOTALL), said.err
    assert list(home.iterdir()) == []


def test_limits_of_each_process_cannot_be_changed_from_outside(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_LLM_REDIS_URL", "memory://")
    for arguments in (["set", "simulator:main", "requests_per_minute=5"], ["budget", "--per-day", "5"]):
        said = cli("limits", *arguments)
        assert said.code == 2 and "each process keeps its limits to itself" in said.err


def test_a_value_may_follow_a_name_that_holds_an_equals_sign() -> None:
    assert pairs(["a=b=2"], "") == {"a=b": "2"}
    with pytest.raises(ConfigurationError, match="is not that"):
        pairs(["=2"], "that")
