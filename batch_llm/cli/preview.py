"""``batch-llm preview JOB -n 5``: a few rows for real, shown in full.

Belongs here: asking what is missing of the first rows and showing them. Not here: the call (run.py), one row's page
(show.py). The answers stay in the run: the whole run does not pay for them again.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.cli.jobs import KnownRun, declared_job, open_home
from batch_llm.cli.run import Spend, answering_kind, spend
from batch_llm.cli.show import RowStory, rows_answered, story_in_words, story_of
from batch_llm.cli.speech import arguments, print_json, say, usd

if TYPE_CHECKING:
    from batch_llm.cli.spending import Consent
    from batch_llm.config.settings import Settings
    from batch_llm.job.load import DeclaredJob

__all__ = ["preview"]


def preview(reference: str, rows: int, consent: Consent, partition: str | None, *, json: bool) -> Exit:
    """Answer up to ``rows`` rows (those answered before are not asked again) and show them; nothing is promoted."""
    from batch_llm.config.settings import Settings

    settings = Settings.from_environment()
    declared = declared_job(settings, reference, partition)
    answering_kind(settings, declared)
    run, asked = _with_answers(settings, declared, rows, consent, json=json)
    stories = [story_of(run, key) for key in rows_answered(run, rows)]
    if json:
        print_json({"job": run.job, "run_id": run.record.run_id, "rows": [story.as_json() for story in stories]})
    else:
        say(_in_words(run, stories))
    if asked is Exit.STOPPED:
        return asked
    return Exit.FAILED_ROWS if any(story.result.get("llm_status") == "failed" for story in stories) else Exit.OK


def _with_answers(
    settings: Settings, declared: DeclaredJob, rows: int, consent: Consent, *, json: bool
) -> tuple[KnownRun, Exit]:
    """The run, with at least so many answers if the input has so many rows; how asking for them ended."""
    from batch_llm import wiring

    started = wiring.planner(settings, declared).start()
    store = open_home()
    counts = store.warehouse.published(started.record.run_id).values()
    missing = rows - sum(count.ok + count.failed for count in counts)
    asked = Exit.OK
    if missing > 0 and not started.nothing_to_do:
        how = Spend(limit=missing, promote=False, json=json, consent=consent)
        asked = exit_for_summary(spend(settings, declared, how))
    return KnownRun(store, store.runs.get(started.record.run_id), declared), asked


def _in_words(run: KnownRun, stories: list[RowStory]) -> str:
    pages = [
        f"===== {position} of {len(stories)} =====\n{story_in_words(story)}"
        for position, story in enumerate(stories, 1)
    ]
    costs = [cost for story in stories if (cost := _cost(story.result)) is not None]
    total = sum(run.record.slice_rows)
    if costs and len(costs) == len(stories):
        mean = sum(costs, Decimal(0)) / len(costs)
        end = f"{usd(mean)} per row on average; at that, all {total:,} rows cost about {usd(mean * total)}."
    else:
        end = "The cost is unknown: the model has no price."
    named = arguments(run.job, run.record.partition)
    return "\n\n".join([*pages, f"{end}\nAll of them: batch-llm run {named} (these rows are not paid again)"])


def _cost(result: dict[str, Any]) -> Decimal | None:
    cost = result.get("llm_cost_usd")
    return cost if isinstance(cost, Decimal) else None
