"""``batch-llm demo``: the packaged job over its packaged table, answered by the simulator.

Belongs here: leading a newcomer through it. Not here: the job and its table (batch_llm/demo), the run (run.py).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING

from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.cli.forget import forget_runs
from batch_llm.cli.run import Spend, spend
from batch_llm.cli.speech import print_json, program, say, table, tell
from batch_llm.cli.spending import Consent
from batch_llm.cli.summary import summary_as_json, summary_in_words

if TYPE_CHECKING:
    from batch_llm.config.settings import Settings
    from batch_llm.engine.events import RunSummary
    from batch_llm.job.load import DeclaredJob

__all__ = ["demo", "drop_keys"]

ROWS_SHOWN = 5
KEY_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS|^OPENAI_|^ANTHROPIC_|^AZURE_|^GOOGLE_|^GEMINI_")
SERVICE_NAMES = ("BATCH_LLM_PROVIDERS", "BATCH_LLM_REDIS_URL", "BATCH_LLM_WAREHOUSE", "BATCH_LLM_JOURNAL")


def demo(*, fresh: bool, json: bool) -> Exit:
    """Run the demo.

    ``fresh``: erase its earlier runs and ask every row again; otherwise it goes on with, or finds finished, the last.
    """
    from batch_llm.demo import JOB_FILE
    from batch_llm.job.load import load_job

    drop_keys(os.environ)
    settings = _settings()
    declared = load_job(JOB_FILE)
    tell(
        "This demo is answered by the simulator on this machine, not by an LLM: answers are made up, no key is used, "
        "nothing is billed. Rate limit, retries, journal and tables are the real thing."
    )
    declared = _asked_anew(declared) if fresh else _as_it_ran(settings, declared)
    summary = spend(settings, declared, Spend(json=json, consent=Consent(yes=True)))
    if json:
        print_json(summary_as_json(summary))
    else:
        say(summary_in_words(summary))
        say("\n" + _some_rows(settings, summary, declared))
        say(_next_steps(summary))
    return exit_for_summary(summary)


def drop_keys(environ: MutableMapping[str, str]) -> None:
    """Remove whatever looks like a key, and our own variables that would lead to another service."""
    for name in list(environ):
        if KEY_NAMES.search(name.upper()) or name in SERVICE_NAMES:
            del environ[name]


def _settings() -> Settings:
    from batch_llm.config.settings import Settings
    from batch_llm.demo import PROVIDERS_FILE

    return replace(Settings.from_environment(), providers_path=PROVIDERS_FILE)


def _asked_anew(declared: DeclaredJob) -> DeclaredJob:
    """Forget the earlier demos, and the same job with another seed.

    The output table still holds the last answers, and an unchanged question is never asked again.
    """
    forget_runs(declared.job.name)
    params = declared.job.params.model_copy(update={"seed": int(time.time())})
    return replace(declared, job=declared.job.model_copy(update={"params": params}))


def _as_it_ran(settings: Settings, declared: DeclaredJob) -> DeclaredJob:
    """The job as the last demo declared it; as packaged when there was none."""
    from batch_llm.job.load import declare
    from batch_llm.wiring import open_store

    record = open_store(settings).runs.latest(declared.job.name)
    return declared if record is None else declare(record.job, record.job_dir)


def _some_rows(settings: Settings, summary: RunSummary, declared: DeclaredJob) -> str:
    from batch_llm.wiring import open_store

    job = declared.job
    answer = list(job.output.answer_schema or {"response": None})
    columns = [*job.input.key, *job.output.keep, *answer, "llm_status", "llm_attempts", "llm_cost_usd"]
    columns = list(dict.fromkeys(columns))
    rows = [
        list(row.values())
        for batch in open_store(settings).warehouse.rows(summary.output, columns=columns, limit=ROWS_SHOWN)
        for row in batch.to_pylist()
    ]
    return f"{ROWS_SHOWN} of the {summary.rows:,} rows of the table {summary.output}:\n{table(columns, rows)}"


def _next_steps(summary: RunSummary) -> str:
    from batch_llm.demo import JOB_FILE

    typed = program()
    steps = {
        "status": "where the jobs of this home stand",
        f"show {summary.job} Europe/Paris": "one row: prompt, raw answer, cost",
        f"export {summary.job} --to places.csv": "the output table as a file",
        "demo": "again: nothing has changed, so nothing is asked",
        "demo --fresh": "ask every row again",
        "dev": "the Dagster UI (in a checkout: make dev)",
    }
    width = max(map(len, steps))
    shown = "\n".join(f"  {typed} {step.ljust(width)}  {what}" for step, what in steps.items())
    return f"""
Try next:
{shown}
The job file is {JOB_FILE}
With a real key: copy it, change `model:` to openai/gpt-4.1-mini, set OPENAI_API_KEY, and `{typed} plan` your copy."""
