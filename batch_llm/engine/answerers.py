"""Who gave a stored answer: how it is read, and what it cost.

Belongs here: telling the models apart that answered rows of one job, its own and those of `fallback`, by what the
journal notes beside an answer. Not here: judging an answer (answers.py), adding up what rows cost (rows.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from batch_llm.engine.answers import AnyJudge
from batch_llm.errors import ConfigurationError
from batch_llm.pricing import Price
from batch_llm.providers.base import Usage

__all__ = ["FALLBACK", "POOL", "Answerer", "Answerers"]

# in the detail of an answer
POOL = "pool"  # the name of the pool that gave it, in its provider
FALLBACK = "fallback"  # the model that gave it in the place of the job's own, provider/model; absent: the job's own did


@dataclass(frozen=True, slots=True)
class Answerer:
    """One model that answers rows of a job."""

    provider: str
    model: str
    judge: AnyJudge
    price: Price | None  # of its dearest pool; None: unknown
    by_pool: Mapping[str, Price | None] = field(default_factory=dict)  # where pools' prices differ

    def price_at(self, pool: str | None) -> Price | None:
        """The price of an answer that this pool gave; None: not noted, and the dearest counts."""
        return self.by_pool.get(pool or "", self.price) if self.by_pool else self.price

    def cost_nano(self, usage: Usage | None, pool: str | None) -> int | None:
        """What an answer with this usage cost, nano-dollars; None when the price or the usage is unknown."""
        price = self.price_at(pool) if self.by_pool else self.price
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
