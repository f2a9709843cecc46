"""A language model for any asset: paced by the shared limit, capped by a budget.

Belongs here: the fields and the constructor. Not here: pacing, money, HTTP (batch_llm/paced_client.py).

    @dg.asset
    def titles(llm: LLMResource) -> None:
        async def ask() -> None:
            client = llm.openai_client()
            await client.chat.completions.create(model=llm.model_name, messages=[...])
        asyncio.run(ask())
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from batch_llm.limiter.base import Tenant
from batch_llm.paced_client import PacedCalls
from batch_llm.providers.base import Completion
from batch_llm.wiring import paced_provider
from resources.settings import SettingsResource

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["LLMResource"]


class LLMResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the resource itself is what assets get
    """One model of the providers file. All calls of a Dagster run share one budget."""

    settings: SettingsResource
    model: str = Field(description="provider name / model, as in the providers file.")
    budget_usd: float | None = Field(default=None, gt=0, description="What one Dagster run may spend, US dollars.")
    user: str = Field(default="default", description="A label for fair share and reports.")

    _calls: PacedCalls | None = PrivateAttr(default=None)

    @property
    def model_name(self) -> str:
        """The model, without its provider: what the openai SDK is given."""
        return self.model.split("/", 1)[1]

    def create(self) -> PacedCalls:
        """The calls; the same object for a whole Dagster run."""
        if self._calls is None:
            settings, model = self.settings.create(), self.model
            budget_usd = None if self.budget_usd is None else Decimal(str(self.budget_usd))
            self._calls = PacedCalls(
                lambda: paced_provider(settings, model, budget_usd=budget_usd), Tenant(self.user, "assets")
            )
        return self._calls

    async def complete(self, prompt: str, **options: Any) -> Completion:
        """See `PacedCalls.complete`."""
        return await self.create().complete(prompt, **options)

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """See `PacedCalls.embed`."""
        return await self.create().embed(texts)

    def openai_client(self) -> AsyncOpenAI:
        """See `PacedCalls.openai_client`."""
        return self.create().openai_client()
