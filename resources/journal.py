"""The durable state of runs: their records, and the journals of their slices.

Belongs here: the field and `create`. Not here: files (batch_llm/journal).
"""

from __future__ import annotations

import dagster as dg

from batch_llm.journal.base import RunStore
from batch_llm.wiring import open_store
from resources.settings import SettingsResource

__all__ = ["JournalResource"]


class JournalResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The run records and journals that the settings name."""

    settings: SettingsResource

    def create(self) -> RunStore:
        """The run store."""
        return open_store(self.settings.create()).runs
