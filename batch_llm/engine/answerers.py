"""Who gave a stored answer: how it is read, and what it cost.

Belongs here: telling the models apart that answered rows of one job, its own and those of `fallback`, by what the
journal notes beside an answer. Not here: judging an answer (answers.py), adding up what rows cost (rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batch_llm.engine.answers import AnyJudge
from batch_llm.errors import ConfigurationError
from batch_llm.pricing import Price
from batch_llm.providers.base import Usage

__all__ = ["FALLBACK", "POOL", "PRICE_VERSION", "USER", "Answerer", "Answerers"]

# in the detail of an answer
POOL = "pool"  # the name of the pool that gave it, in its provider
USER = "user"  # who paid for it; absent: who began the run
PRICE_VERSION = "price_version"  # the version of the price that was in force then; absent: it was unknown
FALLBACK = "fallback"  # the model that gave it in the place of the job's own, provider/model; absent: the job's own did


def _none(version: str) -> Price | None:
    return None


@dataclass(frozen=True, slots=True)
class Answerer:
    """One model that answers rows of a job."""

    provider: str
    model: str
    judge: AnyJudge
    price: Price | None  # of its dearest pool today; None: unknown
    by_pool: Mapping[str, Price | None] = field(default_factory=dict)  # where pools' prices differ
    noted: Callable[[str], Price | None] = _none  # finds the price of a version in the run's record

    def price_of(self, detail: Mapping[str, Any]) -> Price | None:
        """The price that an answer was paid at, by what the journal notes beside it.

        Where that is not known (an earlier batch_llm kept no prices, or none was known then): that of its pool today;
        of a pool that is not noted, or is gone, the dearest.
        """
        version, today = detail.get(PRICE_VERSION), self.price
        if version is not None:
            if today is not None and today.version == version:
                return today
            then = self.noted(version)
            if then is not None:
                return then
        return self.by_pool.get(detail.get(POOL, ""), today) if self.by_pool else today

    def cost_nano(self, usage: Usage | None, detail: Mapping[str, Any]) -> int | None:
        """What an answer with this usage cost, nano-dollars; None when the price or the usage is unknown."""
        price = self.price_of(detail)
        if usage is None or price is None:
            return None
        return price.cost_nano(usage.input_tokens, usage.output_tokens, usage.cached_input_tokens)


def _nobody(model: str) -> Answerer:
    raise ConfigurationError(f"an answer of {model} is stored, and nothing is known of that model")


class Answerers:
    """All models that answer rows of a job, or did."""

    def __init__(self, own: Answerer, other: Callable[[str], Answerer] = _nobody) -> None:
        """``own``: the job's own model; ``other`` finds another one, and may raise `ConfigurationError`."""
        self.own = own
        self._other = other
        self._found: dict[str, Answerer] = {}

    def called(self, fallback: str | None) -> Answerer:
        """The one that the journal notes under `FALLBACK`."""
        if fallback is None:
            return self.own
        if fallback not in self._found:
            self._found[fallback] = self._other(fallback)
        return self._found[fallback]
