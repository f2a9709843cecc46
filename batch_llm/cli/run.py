"""The commands that spend: run, retry, preview.

Belongs here: asking for consent, driving the engine, saying how it ended. Not here: the estimate (spending.py), what
a preview shows of a row (inspect.py).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from batch_llm.cli.drive import Action, drive
from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.cli.jobs import declared_job, name_of
from batch_llm.cli.speech import print_json, say, tell
from batch_llm.cli.spending import NO_PRICE, Consent, Estimate, estimate_of_plan, make_sure
from batch_llm.cli.summary import summary_as_json, summary_in_words
from batch_llm.errors import JobFileError

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.engine.engine import Engine
    from batch_llm.engine.events import RunSummary
    from batch_llm.job.load import DeclaredJob

__all__ = ["Spend", "answering_kind", "retry_job", "run_job", "spend"]


@dataclass(frozen=True, slots=True)
class Spend:
    """How a command that spends was called."""

    limit: int | None = None  # rows; None: all
    promote: bool = True  # bring the answers into the output table
    json: bool = False
    consent: Consent = field(default_factory=Consent)
    partition: str | None = None  # the date partition to run; None: the job has none, or it is refused


def run_job(reference: str, how: Spend) -> Exit:
    """``batch-llm run``."""
    from batch_llm.config.settings import Settings

    settings = Settings.from_environment()
    summary = spend(settings, declared_job(settings, reference, how.partition), how)
    return _ended(summary, json=how.json)


def spend(settings: Settings, declared: DeclaredJob, how: Spend) -> RunSummary:
    """Plan, ask, run; for every command that asks rows which were not answered yet."""
    kind = answering_kind(settings, declared)
    _check_channels(declared)
    if _may_exceed(how.consent, declared.job.budget_usd):
        from batch_llm import wiring

        plan = wiring.planner(settings, declared).plan()
        for warning in plan.warnings:
            tell(f"warning: {warning}")
        _make_sure(estimate_of_plan(plan, how.limit), how.consent, kind)

    def ask(engine: Engine) -> Awaitable[RunSummary]:
        return engine.run(limit=how.limit, promote_after=how.promote)

    return _driven(settings, declared, ask, json=how.json)


def _may_exceed(consent: Consent, budget_usd: Decimal | None) -> bool:
    """Whether the cost may be above what the user agreed to: the budget holds in any case."""
    return not consent.yes and (budget_usd is None or budget_usd > consent.above_usd)


def answering_kind(settings: Settings, declared: DeclaredJob) -> str:
    """The kind of provider that will answer; of a job with `fallback` one that bills, if any does.

    Raises `SecretError` when a key of its pools is not set: that is told before anything is planned, frozen or asked.
    """
    from batch_llm.config.providers_file import api_key_of
    from batch_llm.targets import job_targets

    asked = [*job_targets(settings, declared)]
    for model in declared.job.fallback:
        asked += job_targets(settings, declared.asking(model))
    for target in asked:
        api_key_of(target.provider_name, target.provider, target.pool, os.environ)
    kinds = [target.provider.kind for target in asked]
    return next((kind for kind in kinds if kind != "simulator"), kinds[0])


def _make_sure(estimate: Estimate, consent: Consent, kind: str) -> None:
    """As `make_sure`; the simulator bills nothing, so where it has no price there is nothing to ask about."""
    if kind == "simulator" and estimate.upper_usd is None and estimate.reason == NO_PRICE:
        return
    make_sure(estimate, consent)


def retry_job(reference: str, how: Spend) -> Exit:
    """``batch-llm retry``: the failed rows of the latest run once more."""
    from batch_llm import wiring
    from batch_llm.config.settings import Settings

    settings = Settings.from_environment()
    declared = declared_job(settings, reference, how.partition)
    kind = answering_kind(settings, declared)
    _check_channels(declared)
    planner = wiring.planner(settings, declared)
    record = planner.latest_run()
    if record is None:
        over = "" if how.partition is None else f" over the partition {how.partition}"
        raise JobFileError(f"{name_of(reference)} has not run{over} in {settings.home}; there is nothing to retry")
    if _may_exceed(how.consent, declared.job.budget_usd):
        _make_sure(estimate_of_plan(planner.plan_retry(record)), how.consent, kind)
    summary = _driven(settings, declared, lambda engine: engine.retry(), json=how.json)
    return _ended(summary, json=how.json)


def _check_channels(declared: DeclaredJob) -> None:
    from batch_llm.notify import check_channels

    check_channels(declared.job.notify)


def _driven(settings: Settings, declared: DeclaredJob, action: Action, *, json: bool) -> RunSummary:
    from batch_llm.notify import RunNotice

    notice = RunNotice(declared.job)
    try:
        with notice:
            notice.summary = drive(settings, declared, action, json=json)
    finally:
        for delivery in notice.deliveries:
            if delivery.problem is not None:
                tell(f"could not notify {delivery.reference}: {delivery.problem}")
    return notice.summary


def _ended(summary: RunSummary, *, json: bool) -> Exit:
    if json:
        print_json(summary_as_json(summary))
    else:
        say(summary_in_words(summary))
    return exit_for_summary(summary)
