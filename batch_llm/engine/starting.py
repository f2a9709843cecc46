"""Which run is this: a new one, one to go on with, or nothing to do?

Belongs here: checking a job against its tables before any call, freezing, the run's record. Not here: estimates
(planning.py), asking (engine.py).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.context import longest_answer
from batch_llm.engine.date_partition import check_partition, date_range, earlier_runs, row_filter
from batch_llm.engine.estimating import Looking, estimate
from batch_llm.engine.images import check_image_columns, names_images
from batch_llm.engine.parts import JobParts, python_rows
from batch_llm.engine.planned import Planned, planned
from batch_llm.engine.promotion import has_grown
from batch_llm.engine.publish import Pending
from batch_llm.engine.publishing import publish_slice
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.window import rows_per_s
from batch_llm.errors import ConfigurationError, InputError, OutputError
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.job.load import declare
from batch_llm.job.template import RenderError
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.limiter.base import Cost, Limits
from batch_llm.warehouse.base import FreezeSpec, FrozenInput

__all__ = ["Started", "check", "check_budget", "check_money", "freeze_spec", "same_run", "signatures", "start"]

SLICE_MINUTES = 10.0  # a Dagster run costs 4 to 6 s: about 1 % of a slice
SLICES_AT_ONCE = 4  # `max_concurrent_runs` in dagster.yaml: so many share the limit
SLICE_ROWS_MIN = 20
SLICE_ROWS_MAX = 50_000
SLICE_VECTOR_BYTES = 64 << 20  # of an embedding job: earlier vectors of a slice are in memory while it is at work
SAMPLE_ROWS = 200  # rendered to guess tokens per row
SAMPLE_IMAGE_ROWS = 20  # the same of rows with images, each of which may be of many megabytes


@dataclass(frozen=True, slots=True)
class Started:
    """The run to work on."""

    record: RunRecord
    resumed: bool = False
    nothing_to_do: bool = False


def start(parts: JobParts, judge: AnyJudge) -> Started:
    """Find the unfinished run that is this one, or freeze a new run; blocking, one process at a time for a job.

    Spends nothing; raises `ConfigurationError`, and `SliceBusy` while a process works on a run of the job that this one
    would end. ``judge`` reads the answers of an unfinished run that this one takes over.
    """
    schema, version = check(parts)
    with parts.runs.starting(parts.declared.job.name):
        return _start(parts, judge, version, may_have_changed=names_images(parts.declared.job.images, schema))


def _start(parts: JobParts, judge: AnyJudge, version: str, *, may_have_changed: bool) -> Started:
    """``may_have_changed``: what the rows name, without the input's version telling."""
    signature, shape = signatures(parts)
    records = earlier_runs(parts)
    same = [record for record in records if same_run(record, signature, shape, version)]
    unfinished = next((record for record in same if record.state is RunState.PLANNED), None)
    finished = same[0] if same and same[0] is records[0] and same[0].state is RunState.FINISHED else None
    if unfinished is None and finished is not None and has_grown(parts, finished):
        unfinished = finished
    if unfinished is not None:
        check_budget(parts)
        changes = {"job": parts.declared.job_data(), "planned": _planned_again(parts, unfinished)}
        return Started(parts.runs.change(unfinished.run_id, state=RunState.PLANNED, **changes), resumed=True)
    if finished is not None and not may_have_changed:
        if _output_stands(parts):
            return Started(finished, nothing_to_do=True)
        return Started(replace(finished, state=RunState.PLANNED), resumed=True)  # promoted again, nothing is asked
    check_budget(parts)
    ended = _unfinished(parts)
    with ExitStack() as alone:
        for old in ended:
            alone.enter_context(parts.runs.alone(old.run_id))
        return Started(_freeze(parts, judge, ended))


def check(parts: JobParts) -> tuple[pa.Schema, str]:
    """Everything that can be known to be wrong before a call; the input's schema and version; blocking."""
    job = parts.declared.job
    info = parts.warehouse.source(parts.source)
    schema = info.schema
    if schema is None:
        raise InputError(f"{parts.source}: its columns cannot be read")
    parts.declared.check_columns(schema.names)
    check_partition(parts, schema)
    check_image_columns(job.images, schema)
    nested = [name for name in job.input.key if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise InputError(f"input.key: {', '.join(nested)} holds lists or structs, which cannot name a row")
    check_money(parts)
    parts.warehouse.ensure(parts.output, parts.output_schema(schema), parts.key, source=parts.source)
    return schema, info.version


def check_money(parts: JobParts) -> None:
    """Refuse a budget that cannot be kept."""
    for each in (parts, *parts.fallbacks):
        if parts.declared.job.budget_usd is not None and each.price is None:
            raise ConfigurationError(
                f"budget_usd: the price of {each.declared.job.model} is unknown, so a budget cannot be kept; "
                "give `prices` to its pool in the providers file, or drop the budget"
            )


def check_budget(parts: JobParts) -> None:
    """Refuse a budget that pays for no row, however short: such a run asks nothing however often it is started."""
    job = parts.declared.job
    if job.budget_usd is None or parts.price is None:
        return
    cap = parts.output_length.cap() if job.params.learns_cap else job.params.declared_cap
    longest = longest_answer(parts, Cost(0, 0, cap))
    held_usd = parts.price.cost(0, longest, 0)
    if job.budget_usd < held_usd:
        raise ConfigurationError(
            f"budget_usd {job.budget_usd} pays for no row: before each call the dearest answer is set aside, here "
            f"{longest:,} tokens or {held_usd:.4f} USD, with the prompt on top. Raise budget_usd above {held_usd:.4f}, "
            f"or set params.max_output_tokens {'lower' if job.params.declared_cap else 'to a number'}. "
            "Nothing was spent"
        )


def signatures(parts: JobParts) -> tuple[str, str]:
    """(what the answers depend on, what else makes it another run), as hashes."""
    job = parts.declared.job
    signature = [job.prompt.system, parts.declared.user_template, job.model, parts.params, parts.schema.json_schema]
    if job.is_embedding:
        signature.append(job.kind)
    if job.images:
        signature.append({"images": job.images})
    shape = [parts.source, job.input.key, job.input.where, list(parts.columns), job.output.keep, parts.output]
    dates = date_range(parts)
    of_dates = [] if dates is None else [[dates.column, dates.start.isoformat(), dates.end.isoformat()]]
    return _hash(signature), _hash([*shape, job.output.mode, *of_dates])


def same_run(record: RunRecord, signature: str, shape: str, version: str) -> bool:
    """The record is an execution of this very job over this very input."""
    return (record.signature, record.shape, record.input_version) == (signature, shape, version)


def freeze_spec(parts: JobParts, run_id: str) -> FreezeSpec:
    """What to freeze, in slices of about ten minutes of work when several share the limit; blocking."""
    where = row_filter(parts)
    rows = parts.declared.job.slices.rows or _rows_per_slice(parts, where)
    return FreezeSpec(run_id, parts.source, parts.key, parts.columns, where, rows)


def _freeze(parts: JobParts, judge: AnyJudge, ended: list[RunRecord]) -> RunRecord:
    """A new run that takes over the paid answers of the ``ended`` ones."""
    job = parts.declared.job
    signature, shape = signatures(parts)
    now = parts.clock.now()
    parts.runs.sweep()
    run_id = f"{job.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    frozen: FrozenInput = parts.warehouse.freeze(freeze_spec(parts, run_id))
    if not frozen.slices:  # an empty table is an output as well
        parts.warehouse.publish(run_id, 0, iter(()), parts.output_schema(check(parts)[0]))
    supersedes = (*_take_over(parts, judge, ended), *_finished_before(parts, signature, shape))
    seen = estimate(parts, judge, frozen, Looking(supersedes, every_row=False))
    record = RunRecord(
        run_id=run_id,
        job=parts.declared.job_data(),
        job_dir=str(parts.declared.directory),
        job_file="" if parts.declared.path is None else os.path.abspath(parts.declared.path),
        signature=signature,
        shape=shape,
        source=parts.source,
        input_version=frozen.version,
        key=parts.key,
        columns=parts.columns,
        slice_rows=tuple(info.rows for info in frozen.slices),
        supersedes=supersedes,
        state=RunState.PLANNED,
        created_at=now,
        planned=planned(parts, seen, parts.learning.known).as_data(),
    )
    parts.runs.save(record)
    for old in ended:  # only now: a crash before this line leaves them to be taken over again
        parts.runs.change(old.run_id, state=RunState.SUPERSEDED)
    return record


def _planned_again(parts: JobParts, record: RunRecord) -> dict[str, Any] | None:
    """What an unfinished run was planned to take, looked at once more when answers came since (`preview`)."""
    plan, known = Planned.from_data(record.planned), parts.learning.known
    if plan is None or plan.firm or known.own.answers.good <= plan.after_answers:
        return record.planned
    return plan.looked_at_again(parts, known).as_data()


def _unfinished(parts: JobParts) -> list[RunRecord]:
    """The job's unfinished runs, which a new run ends.

    A run of another table of the job's `watch` that somebody asked for goes on by itself.
    """
    return [
        old
        for old in earlier_runs(parts)
        if old.state is RunState.PLANNED and not (old.requested and old.source != parts.source)
    ]


def _take_over(parts: JobParts, judge: AnyJudge, ended: list[RunRecord]) -> tuple[str, ...]:
    """Publish what ended runs have in their journals, so that it can be found; the runs to look in."""
    taken: list[str] = []
    for old in ended:
        declared = declare(old.job, Path(old.job_dir))  # its slices were frozen for the job as it was
        if declared.job.is_embedding != parts.declared.job.is_embedding:
            continue  # nothing of it can be of use
        as_it_was = replace(parts, declared=declared, source=old.source)
        _publish_journals(as_it_was, judge.for_schema(declared.answer), old)
        taken.extend([old.run_id, *old.supersedes])
    return tuple(dict.fromkeys(taken))


def _finished_before(parts: JobParts, signature: str, shape: str) -> tuple[str, ...]:
    """The newest finished run that asked the same question, where the output table may no longer hold its answers."""
    for place, old in enumerate(earlier_runs(parts)):
        if old.state is RunState.FINISHED and old.signature == signature:
            return (old.run_id,) if place or old.shape != shape else ()
    return ()


def _publish_journals(parts: JobParts, judge: AnyJudge, old: RunRecord) -> None:
    for number in range(len(old.slice_rows)):
        if parts.runs.is_published(old.run_id, number):
            continue
        work = SliceWork(parts, judge, old, number)
        work.open(reopen_below=None)
        try:
            publish_slice(work, Pending.because(None))
        finally:
            work.close()


def _output_stands(parts: JobParts) -> bool:
    try:
        next(parts.warehouse.rows(parts.output, limit=1), None)
    except OutputError:
        return False
    return True


def _rows_per_slice(parts: JobParts, where: str | None) -> int:
    job = parts.declared.job
    tokens = _tokens_per_row(parts, where)
    rate = rows_per_s(_limits_of_rows(parts, sum(tokens)), *tokens)
    most = SLICE_ROWS_MAX
    if isinstance(parts.schema, EmbeddingAnswer):
        most = max(SLICE_ROWS_MIN, min(most, SLICE_VECTOR_BYTES // parts.schema.vector_bytes))
    if rate is None:
        return most
    rows = int(rate * 60 * (job.slices.target_minutes or SLICE_MINUTES) / SLICES_AT_ONCE)
    return min(most, max(SLICE_ROWS_MIN, rows))


def _limits_of_rows(parts: JobParts, tokens_per_row: float) -> Limits:
    """The limits with the requests counted in rows, where a call asks many."""
    bounds, requests = parts.call_bounds, parts.limits.requests_per_minute
    if bounds is None or requests is None or bounds.row_is_request:
        return parts.limits
    rows_per_call = max(1.0, min(bounds.rows, bounds.tokens / tokens_per_row))
    return replace(parts.limits, requests_per_minute=requests * rows_per_call)


def _tokens_per_row(parts: JobParts, where: str | None) -> tuple[float, float]:
    """Input and output tokens of a row, guessed from the first rows."""
    sample = SAMPLE_IMAGE_ROWS if parts.declared.job.images else SAMPLE_ROWS
    head = parts.warehouse.sample(parts.source, parts.columns, where, sample)
    costs = []
    rows = [row for batch in head.to_batches() for row in python_rows(batch, parts.asked_columns) if row is not None]
    for row in rows:
        with suppress(RenderError):
            costs.append(parts.predicted_cost(parts.request(row, "")))
    count = max(1, len(costs))
    return sum(cost.input_tokens for cost in costs) / count, sum(cost.output_tokens for cost in costs) / count


def _hash(said: Any) -> str:
    return hashlib.blake2b(orjson.dumps(said, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
