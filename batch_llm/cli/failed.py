"""``batch-llm failed JOB``: the failed rows of the newest run, by class, with examples and what to do.

Belongs here: grouping, wording. Not here: what helps against which class (engine/retry.py), asking again (run.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from batch_llm.cli.jobs import KnownRun, known_run
from batch_llm.cli.speech import arguments, one_line, print_json, say, table
from batch_llm.engine.retry import RULES
from batch_llm.errors import ErrorClass

__all__ = ["FailedClass", "failed_classes", "print_failed"]

EXAMPLES = 3


@dataclass(slots=True)
class FailedClass:
    """One error class of a run."""

    error_class: str
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)  # key, error, attempts

    @property
    def advice(self) -> str:
        """What may help."""
        known = self.error_class in set(ErrorClass)
        return RULES[ErrorClass(self.error_class)].advice if known else "asking again may do"


def print_failed(reference: str, partition: str | None, *, json: bool) -> None:
    """``batch-llm failed JOB``."""
    run = known_run(reference, partition)
    found = failed_classes(run)
    if json:
        classes = [{**asdict(one), "advice": one.advice} for one in found]
        print_json({"job": run.job, "run_id": run.record.run_id, "failed": sum(one.rows for one in found),
                    "classes": classes})  # fmt: skip
    elif not found:
        say(f"{run.job}: no failed rows in {run.record.run_id}")
    else:
        say(_in_words(run, found))


def failed_classes(run: KnownRun) -> list[FailedClass]:
    """The failed rows by class, most frequent first; a few examples each."""
    found: dict[str, FailedClass] = {}
    columns = [*run.record.key, "llm_error_class", "llm_error", "llm_attempts"]
    batches = run.store.warehouse.rows(f"run:{run.record.run_id}", columns=columns, where="llm_status = 'failed'")
    for batch in batches:
        for row in batch.to_pylist():
            name = row["llm_error_class"] or "unknown"
            one = found.setdefault(name, FailedClass(name))
            one.rows += 1
            if len(one.examples) < EXAMPLES:
                key = {column: row[column] for column in run.record.key}
                one.examples.append({"key": key, "error": row["llm_error"], "attempts": row["llm_attempts"]})
    return sorted(found.values(), key=lambda one: (-one.rows, one.error_class))


def _in_words(run: KnownRun, found: list[FailedClass]) -> str:
    total = sum(one.rows for one in found)
    rows = [
        [
            one.error_class if first else "",
            f"{one.rows:,}" if first else "",
            ",".join(str(value) for value in example["key"].values()),
            example["attempts"],
            one_line(example["error"], 160),
        ]
        for one in found
        for first, example in zip([True, False, False], one.examples, strict=False)
    ]
    named = arguments(run.job, run.record.partition)
    lines = [
        f"{run.job}: {total:,} failed rows in {run.record.run_id}",
        "",
        table(["class", "rows", "key", "attempts", "error"], rows),
        "",
        *(f"{one.error_class}: {one.advice}" for one in found),
        "",
        f"Ask them once more: batch-llm retry {named}   one row in full: batch-llm show {named} KEY",
    ]
    return "\n".join(lines)
