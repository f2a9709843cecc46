"""A whole run of a job inside one Dagster run: plan, ask, publish, bring into the table.

Belongs here: running it as the command line does, and showing its slices as they are published. Not here: which job
(submit_job.py), which date partition (output_asset.py), what the table shows (promotion.py).
"""

from __future__ import annotations

import dagster as dg

from assets import slice_report
from assets.interrupts import Interrupts, run_interruptible
from assets.partitions import partition_key
from assets.progress import ProgressLog
from assets.slice_assets import enriched_key, frozen_events
from assets.start_job import add_partitions
from assets.tags import RUN_TAG
from batch_llm.config.settings import Settings
from batch_llm.engine.events import RunSummary, SlicePublished
from batch_llm.job.load import DeclaredJob
from batch_llm.journal.base import RunRecord
from batch_llm.wiring import engine, open_store

__all__ = ["WholeRun"]


class WholeRun:
    """One job at work in one Dagster run."""

    def __init__(
        self,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        settings: Settings,
        declared: DeclaredJob,
        family: str,
    ) -> None:
        """``family``: whose partitions its slices are."""
        self._context = context
        self._settings = settings
        self._declared = declared
        self._family = family
        self._record: RunRecord | None = None

    def run(self) -> RunSummary:
        """Do it all. Raises `dg.Failure` for a run that stopped early or must not be promoted; what is paid is kept."""
        summary = run_interruptible(self._ask)
        if summary.nothing_to_do:
            self._context.log.info(f"run {summary.run_id} is finished and nothing changed since: nothing to do")
        elif summary.stopped is not None or summary.blocked is not None:
            reason = summary.blocked or f"stopped early: {summary.stopped}; {summary.pending} rows are not answered yet"
            raise dg.Failure(
                description=f"{reason}. What is paid is kept; launch it again to go on.", allow_retries=False
            )
        return summary

    async def _ask(self, interrupts: Interrupts) -> RunSummary:
        progress = ProgressLog(self._context.log, on_published=self._show_slice)
        async with engine(self._settings, self._declared, listener=progress) as opened:
            started = await opened.start()
            if not started.nothing_to_do:
                self._begin(started.record)
            with interrupts.stopping_with(opened.stop):
                return await opened.run()

    def _begin(self, record: RunRecord) -> None:
        """The run exists from now on: its partitions too."""
        self._record = record
        if record.requested:  # this Dagster run does it now, and no other is to be started for it
            open_store(self._settings).runs.change(record.run_id, requested=False)
        add_partitions(self._context.instance, self._family, record)
        for event in frozen_events(self._context.instance, self._family, record):
            self._context.log_event(event)
        self._context.instance.add_run_tags(self._context.run.run_id, {RUN_TAG: record.run_id})

    def _show_slice(self, event: SlicePublished) -> None:
        if self._record is None or event.pending:
            return
        record, number, store = self._record, event.slice_number, open_store(self._settings)
        numbers = slice_report.slice_numbers(store.warehouse, record, number)
        key, partition = enriched_key(self._family), partition_key(record.run_id, number)
        metadata = slice_report.metadata(record, numbers)
        self._context.log_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
