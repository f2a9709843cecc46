"""The retry table as people read it: docs/reference/failures.md.

Belongs here: the page's words, made of the table. Not here: the table (retry.py). Write the page anew with
``.venv/bin/python -m batch_llm.engine.failures_page > docs/reference/failures.md``; a test compares.
"""

from __future__ import annotations

import sys

from batch_llm.engine.retry import (
    BACKOFF_BASE_S,
    BACKOFF_MAX_S,
    LONGEST_WAIT_S,
    RULES,
    THROTTLES_IN_A_ROW,
    Action,
    Eases,
    Rule,
    Uses,
    Wait,
)
from batch_llm.engine.window import AWAY_PATIENCE_S

__all__ = ["failures_page"]

_FOLLOWS = {
    Action.AGAIN: "asked again",
    Action.WAIT: "waits, asked again",
    Action.RE_ASK: "asked again, paid",
    Action.FAIL: "the row fails",
    Action.PARK: "the run is parked",
    Action.STOP: "the run stops",
}
_USES = {Uses.NOTHING: "", Uses.ATTEMPT: "`retries.attempts`", Uses.RE_ASK: "`retries.re_asks`"}
_EASES = {Eases.NOTHING: "", Eases.RATE: "rate, for a while", Eases.CONCURRENCY: "calls at once"}
_WAITS = {Wait.NEVER: "", Wait.NOT_AT_ALL: "no", Wait.AS_ASKED: "as asked", Wait.BACK_OFF: "back-off"}

_PAGE = """\
# What follows from a failure

Each attempt that does not end with a good answer has a class. What the engine does then is one table,
`batch_llm/engine/retry.py`; this page is made from it. A row that ends without an answer carries the class in
`llm_error_class`; `batch-llm failed JOB` shows the classes of a run with examples.

| class | what follows | uses up | waits | slows down | ends as | because |
|---|---|---|---|---|---|---|
{rules}

- **uses up**: the row fails when its `retries.attempts` or its `retries.re_asks` are used up. A wait for a limit uses
  up nothing: a storm of 429s fails no row.
- **nobody is answered**: when calls fail with {outages} and nothing else comes back, the provider is away, which says
  nothing about any row. Several rows have to fail so; one that fails while others are answered is asked again as the
  table says. One call at a time probes the provider, with rows that did not fail yet as long as there are any, and all
  rows go on with its first answer. What was in flight when it began uses up nothing, nor does a call that reached
  nobody. A probe that may be paid (time-out, connection cut) uses up an attempt; failures that the provider answers use
  up one per minute of it and row, so that rows which fail for ever end as well. After {patience:.0f} minutes the run
  stops, to be resumed; where every row that is left has failed by itself, these rows fail instead.
- **back-off**: {first_s:g} s before the second attempt, then twice as long each time, up to {most_s:g} s; of that a
  random part, up to a half, is taken off. Never less than the provider asked for, up to {longest_s:g} s.
- **as asked**: as long as the provider asked of this row, up to {longest_s:g} s, then until the limiter lets it go.
  After {throttles} refusals in a row the row backs off as well. Where the limiter cannot go on, or would wait too long
  for the limit of a day, the run stops and the row is pending.
- **slows down**: a refused rate pauses the whole pool, which then goes on a little more slowly. An overloaded provider
  gets fewer calls at once; the rate stays what the limit allows.
- **parked, stops**: nothing more is handed out, what is in flight comes home, the rows not asked are pending, and the
  command ends with exit code 3 (a `sample` with 0). The same command goes on. A parked run needs only time, or credit.
- **ends as**: the row's `llm_status` when nothing more is to be tried.

A refusal (the model says no: `message.refusal`) and a content filter (finish_reason `content_filter`, or a 400 with
that code) are classes of their own: such a row is asked once, fails, and is told apart from every other failure.

## Answers that were cut short

An answer with finish_reason `length` is never kept as good. What follows depends on whose cap it met:

| `params.max_output_tokens` | cut where | what follows |
|---|---|---|
| a number | at that number | the row fails: the cap is yours, and the same call would be cut again |
| a number | below it | asked again with the same cap, as often as `retries.re_asks` says |
| `auto` | at the automatic cap | asked once more without a cap, whatever `retries.re_asks` says: the cap was ours |
| `auto` or absent | without a cap | asked once more (not with `re_asks: 0`), then the row fails |

Where an answer states no usage, it counts as cut at the cap that was sent, if one was.

A number in `params.max_output_tokens` is part of the question: a job whose number was raised, or replaced by `auto`,
asks every row again, those with good answers too, and `batch-llm plan` shows that beforehand. Cheapest is `auto` from
the first run on: the learned cap is no part of the question. With many good answers paid, ask the rows that were cut
in a job of their own (another `name` and output, `input.where`, the larger number).

## Answers that are not quite JSON

Before a row counts as `schema_mismatch`, what only surrounds or punctuates the JSON is read over, without a call: text
and code fences around one JSON object, a byte order mark, a list of one object, a comma after the last element, keys
in typographic quotes, Python's `True`, `False`, `None`. No value is ever changed and nothing is completed: an answer
that was cut short stays bad. Two objects that differ are a mismatch, for nobody knows which one was meant.

## What may help

| class | |
|---|---|
{advice}
"""


def failures_page() -> str:
    """The page, in Markdown."""
    rules = "\n".join(_line(name.value, rule) for name, rule in RULES.items())
    advice = "\n".join(f"| `{name.value}` | {rule.advice} |" for name, rule in RULES.items())
    return _PAGE.format(
        rules=rules,
        advice=advice,
        outages=", ".join(f"`{name.value}`" for name, rule in RULES.items() if rule.may_be_outage),
        patience=AWAY_PATIENCE_S / 60,
        first_s=BACKOFF_BASE_S,
        most_s=BACKOFF_MAX_S,
        longest_s=LONGEST_WAIT_S,
        throttles=THROTTLES_IN_A_ROW,
    )


def _line(name: str, rule: Rule) -> str:
    course = rule.course
    cells = [
        f"`{name}`",
        _FOLLOWS[rule.action],
        _USES[course.uses],
        _WAITS[course.wait],
        _EASES[rule.eases],
        course.ends_as,
        rule.reason,
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


if __name__ == "__main__":
    sys.stdout.write(failures_page())
