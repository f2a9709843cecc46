"""``batch-llm reparse JOB``: the stored answers under the schema as it is now, for nothing.

Belongs here: wording. Not here: what becomes of a row (engine/reparse.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from batch_llm.cli.exits import Exit, exit_for_summary
from batch_llm.cli.jobs import declared_job
from batch_llm.cli.speech import arguments, print_json, say, table
from batch_llm.cli.summary import summary_as_json

if TYPE_CHECKING:
    from batch_llm.engine.reparse import Reparsed

__all__ = ["reparse"]


def reparse(reference: str, partition: str | None, *, json: bool) -> Exit:
    """Judge the answers of the job's newest run again, publish and promote; spends nothing, needs no key."""
    from batch_llm import wiring
    from batch_llm.config.settings import Settings

    settings = Settings.from_environment()
    reparser = wiring.reparser(settings, declared_job(settings, reference, partition))
    done = asyncio.run(reparser.reparse())
    if json:
        print_json({**summary_as_json(done.summary), "schema_changed": done.schema_changed, "moves": _moves(done)})
    else:
        say(_in_words(done))
    return exit_for_summary(done.summary)


def _moves(done: Reparsed) -> list[dict[str, Any]]:
    """Unchanged rows last, else the largest first."""
    ordered = sorted(done.moves.items(), key=lambda item: (item[0][0] == item[0][1], -item[1], item[0]))
    return [{"before": before, "after": after, "rows": rows} for (before, after), rows in ordered]


def _in_words(done: Reparsed) -> str:
    summary = done.summary
    rows = [[move["before"], move["after"], f"{move['rows']:,}"] for move in _moves(done)]
    stand = f"{summary.ok:,} ok, {summary.failed:,} failed, {summary.pending:,} pending"
    lines = [
        f"{summary.job}: {summary.rows:,} rows judged again, nothing asked, nothing spent: {stand}",
        *([table(["before", "now", "rows"], rows)] if rows else []),
        f"  output {summary.output}   run {summary.run_id}",
    ]
    if summary.blocked is not None:
        lines.append(f"Not promoted: {summary.blocked}")
    if summary.failed:
        lines.append(f"Ask the failed rows again: batch-llm retry {arguments(summary.job, summary.partition)}")
    if summary.pending:
        lines.append("`batch-llm run` asks the pending rows.")
    return "\n".join(lines)
