"""The prices that the answers of a run were paid at, as its record keeps them.

Belongs here: noting the prices in force before a call is made, finding the one that a stored answer names. Not here:
what a call costs (pricing.py), which price an answer has (answerers.py).

The journal notes the version of its price beside each answer, a few bytes; what that version says stands once in the
run's record. So an answer costs what it cost when it was paid, whatever the providers file says by now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from batch_llm.pricing import Price

if TYPE_CHECKING:
    from batch_llm.engine.parts import JobParts
    from batch_llm.journal.base import RunRecord

__all__ = ["NotedPrices", "note_prices", "prices_in_force"]

Noted = Mapping[str, Mapping[str, Any]]
"""provider/model: version: the price as plain data."""


class NotedPrices:
    """What the record of a run says of prices."""

    def __init__(self, noted: Noted, read_again: Callable[[], Noted]) -> None:
        """``read_again``: another process may have noted more since."""
        self._noted = noted
        self._read_again = read_again
        self._found: dict[tuple[str, str], Price | None] = {}

    def find(self, model: str, version: str) -> Price | None:
        """The price of a model (provider/model) by its version; None: the run keeps none (of an earlier batch_llm)."""
        key = (model, version)
        if key not in self._found:
            data = self._said(*key)
            if data is None:
                self._noted = self._read_again()
                data = self._said(*key)
            self._found[key] = None if data is None else Price.from_data(version, data)
        return self._found[key]

    def _said(self, model: str, version: str) -> Mapping[str, Any] | None:
        return self._noted.get(model, {}).get(version)


def prices_in_force(parts: JobParts) -> dict[str, dict[str, Any]]:
    """What calls of this process cost, for the run's record."""
    found: dict[str, dict[str, Any]] = {}
    for each in (parts, *parts.fallbacks):
        for pool in each.pools:
            if pool.price is not None:
                found.setdefault(each.declared.job.model, {})[pool.price.version] = pool.price.as_data()
    return found


def note_prices(parts: JobParts, record: RunRecord) -> None:
    """Before the first call: the prices in force are in the run's record. Blocking."""
    in_force = prices_in_force(parts)
    if _together(record.prices, in_force) == record.prices:
        return
    with parts.runs.starting(parts.declared.job.name):  # one at a time: each adds to what is there
        noted = parts.runs.get(record.run_id).prices
        parts.runs.change(record.run_id, prices=_together(noted, in_force))


def _together(noted: Noted, more: Noted) -> dict[str, dict[str, Any]]:
    return {model: {**noted.get(model, {}), **more.get(model, {})} for model in sorted({*noted, *more})}
