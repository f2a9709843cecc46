"""What a run's record keeps of prices: all that its calls were ever made at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from batch_llm.config.providers_file import PricesSpec
from batch_llm.engine.parts import JobParts
from batch_llm.engine.pools import Pool
from batch_llm.engine.prices import NotedPrices, note_prices, prices_in_force
from batch_llm.journal.base import RunRecord
from batch_llm.limiter.base import Limits
from batch_llm.pricing import Price, PriceList
from tests.unit.engine.question_lab import parts_of

MODEL = "openai/gpt-4o-mini"


def price(usd: int) -> Price:
    made = PriceList().for_model("p", "m", PricesSpec(input=Decimal(usd), output=Decimal(usd)))
    assert made is not None
    return made


class Runs:
    """A store with one record; counts how often it is written and read."""

    def __init__(self, noted: dict[str, dict[str, Any]]) -> None:
        self.record = SimpleNamespace(run_id="r", prices=noted)
        self.changed = self.read = 0

    @contextmanager
    def starting(self, job_name: str) -> Iterator[None]:
        yield

    def get(self, run_id: str) -> SimpleNamespace:
        self.read += 1
        return self.record

    def change(self, run_id: str, prices: dict[str, dict[str, Any]]) -> None:
        self.changed += 1
        self.record = SimpleNamespace(run_id="r", prices=prices)


def with_prices(folder: Path, runs: Runs, *prices: Price | None) -> JobParts:
    pools = tuple(Pool(f"p{number}", Limits("p"), each) for number, each in enumerate(prices))
    return replace(parts_of(folder), pools=pools, runs=cast("Any", runs))


def test_every_pools_price_is_noted_and_what_was_noted_stays(tmp_path: Path) -> None:
    """Also what another process noted since this one read the record."""
    runs, stale = Runs({"a/b": {"v": {"tiers": []}}}), cast("RunRecord", SimpleNamespace(run_id="r", prices={}))
    note_prices(with_prices(tmp_path, runs, price(1), price(2), None), stale)
    note_prices(with_prices(tmp_path, runs, price(3)), stale)
    assert set(runs.record.prices) == {"a/b", MODEL}
    assert set(runs.record.prices[MODEL]) == {price(usd).version for usd in (1, 2, 3)}


def test_a_record_that_has_them_all_is_not_written_again(tmp_path: Path) -> None:
    runs = Runs({})
    parts = with_prices(tmp_path, runs, price(1))
    runs.record.prices = prices_in_force(parts)
    note_prices(parts, cast("RunRecord", runs.record))
    assert (runs.changed, runs.read) == (0, 0)


def test_a_price_is_found_by_its_model_and_version_also_when_it_was_noted_later() -> None:
    later = {MODEL: {price(2).version: price(2).as_data()}}
    read = []
    noted = NotedPrices({MODEL: {price(1).version: price(1).as_data()}}, lambda: read.append(1) or later)  # type: ignore[func-returns-value]
    assert noted.find(MODEL, price(1).version) == price(1) and not read
    assert noted.find(MODEL, price(2).version) == price(2) and len(read) == 1
    for _ in range(2):
        assert noted.find("openai/another", price(2).version) is None
    assert len(read) == 2
