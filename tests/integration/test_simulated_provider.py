"""The provider that a pool of kind simulator gets for itself: it holds us to what the pool declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batch_llm import wiring
from batch_llm.clock import ManualClock
from batch_llm.config.settings import Settings
from batch_llm.errors import ProviderError, ProvidersFileError
from batch_llm.job.load import declare
from batch_llm.providers.base import Message, Request

DAY_S = 86_400


async def refused(pool: str, folder: Path, *, after_s: tuple[float, ...] = ()) -> list[str | None]:
    """Send past the limiter: the scope of each refusal, None for an answer; ``after_s``: pauses between the requests.

    The manual clock's wall begins at midnight UTC.
    """
    (folder / "providers.yaml").write_text(
        f"providers:\n  simulator:\n    kind: simulator\n    pools:\n      - {{models: [small], {pool}}}\n"
    )
    settings = Settings(home=folder / "home", providers_path=folder / "providers.yaml", cwd=folder)
    clock, found = ManualClock(), []
    async with wiring.paced_provider(settings, "simulator/small", clock=clock) as paced:
        for number, pause_s in enumerate((0.0, *after_s)):
            await clock.advance(pause_s)
            params: dict[str, Any] = {"max_output_tokens": 10}
            request = Request(f"r{number}", "small", (Message("user", "x" * 400),), params, None)
            try:
                await paced.pools[0].provider.send(request, total_s=10)
                found.append(None)
            except ProviderError as error:
                found.append(error.scope)
    return found


@pytest.mark.parametrize(
    ("limits", "scope"),
    [
        ("requests_per_minute: 1", "requests"),
        ("requests_per_second: 0.0166", "requests"),
        ("tokens_per_minute: 150", "tokens"),
        ("input_tokens_per_minute: 150", "input_tokens"),
        ("output_tokens_per_minute: 15", "output_tokens"),
        ("requests_per_day: 1", "requests_per_day"),
        ("tokens_per_day: 150", "tokens_per_day"),
    ],
)
async def test_every_declared_limit_is_enforced(limits: str, scope: str, tmp_path: Path) -> None:
    pool = f"limits: {{{limits}}}, debit: input_plus_max_tokens"
    assert await refused(pool, tmp_path, after_s=(0.0,)) == [None, scope]


async def test_a_day_begins_anew_where_the_pool_says(tmp_path: Path) -> None:
    """In California eight hours after it does so in Greenwich; else it refills evenly."""
    limits = "limits: {requests_per_day: 2}"
    pauses_s = (0.0, 0.0, 8 * 3600 - 1, 1.0)
    full = [None, None, "requests_per_day", "requests_per_day"]
    assert await refused(f"{limits}, day_resets: America/Los_Angeles", tmp_path, after_s=pauses_s) == [*full, None]
    assert await refused(limits, tmp_path, after_s=pauses_s) == [*full, "requests_per_day"]
    assert await refused(limits, tmp_path, after_s=(0.0, DAY_S / 2)) == [None, None, None]


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        (
            "{models: [small], limits: {requests_per_day: 9}}\n    simulator: {latency_median: 1}",
            "providers.yaml:6: providers.simulator.simulator.latency_median: unknown key",
        ),
        (
            "{models: [small], limits: {requests_per_day: 9}, burst_s: 90}",
            "providers.yaml:4: providers.simulator.pools: the simulator cannot do this: burst_s must be at most 60",
        ),
    ],
)
def test_what_the_simulator_cannot_do_is_told_before_a_run(pool: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "providers.yaml").write_text(
        f"providers:\n  simulator:\n    kind: simulator\n    pools:\n      - {pool}\n"
    )
    job = declare(
        {
            "name": "lab",
            "input": {"table": "input.parquet", "key": ["id"]},
            "prompt": {"user": "{{ text }}"},
            "model": "simulator/small",
            "output": {"table": "out"},
        },
        tmp_path,
    )
    settings = Settings(home=tmp_path / "home", providers_path=tmp_path / "providers.yaml", cwd=tmp_path)
    with pytest.raises(ProvidersFileError) as caught:
        wiring.planner(settings, job)
    assert said in str(caught.value)
