"""Which run is this: a new one, one to go on with, or nothing to do?

Belongs here: checking a job against its tables before any call, freezing, the run's record. Not here: estimates
(planning.py), asking (engine.py).
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from batch_llm.engine.answers import AnyJudge
from batch_llm.engine.context import least_input, longest_answer
from batch_llm.engine.date_partition import check_partition, date_range, earlier_runs, row_filter
from batch_llm.engine.estimating import Looking, estimate
from batch_llm.engine.images import check_image_columns, names_images
from batch_llm.engine.output import check_owner, stands
from batch_llm.engine.parts import JobParts, python_rows
from batch_llm.engine.planned import Planned, planned
from batch_llm.engine.prices import prices_in_force
from batch_llm.engine.promotion import has_grown
from batch_llm.engine.publish import Pending
from batch_llm.engine.publishing import publish_slice
from batch_llm.engine.slice_work import SliceWork
from batch_llm.engine.unpriced import check_money
from batch_llm.engine.window import rows_per_s
from batch_llm.errors import ConfigurationError, InputError, OutputError
from batch_llm.job.embedding import EmbeddingAnswer
from batch_llm.job.load import declare
from batch_llm.job.template import RenderError
from batch_llm.journal.base import RunRecord, RunState
from batch_llm.limiter.base import Cost, Limits
from batch_llm.pricing import in_full
from batch_llm.warehouse.base import FreezeSpec, FrozenInput

__all__ = [
    "Standing",
    "Started",
    "check",
    "check_budget",
    "freeze_spec",
    "looked_in",
    "may_have_changed",
    "signatures",
    "standing",
    "start",
]

_log = logging.getLogger(__name__)

SLICE_MINUTES = 10.0  # a Dagster run costs 4 to 6 s: about 1 % of a slice
SLICES_AT_ONCE = 4  # `max_concurrent_runs` in dagster.yaml: so many share the limit
SLICE_ROWS_MIN = 20
SLICE_ROWS_MAX = 50_000
SLICE_VECTOR_BYTES = 64 << 20  # of an embedding job: earlier vectors of a slice are in memory while it is at work
LOOKED_IN_RUNS = 8  # that ended, for answers that the output lost: where tables are billed, a statement for each
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
    would end. ``judge`` reads answers of the job as it is.
    """
    schema, version = check(parts)
    with parts.runs.starting(parts.declared.job.name):
        return _start(parts, judge, schema, version)


def _start(parts: JobParts, judge: AnyJudge, schema: pa.Schema, version: str) -> Started:
    found = standing(parts, version)
    if found.unfinished is not None:
        check_budget(parts)
        planned_again, of = _planned_again(parts, found.unfinished), found.unfinished.begun_by
        changes = {"job": parts.declared.job_data(), "user": of, "planned": planned_again}
        return Started(parts.runs.change(found.unfinished.run_id, state=RunState.PLANNED, **changes), resumed=True)
    if found.finished is not None and not may_have_changed(parts, schema):
        if stands(parts, found.finished):
            return Started(found.finished, nothing_to_do=True)
        again = replace(found.finished, state=RunState.PLANNED)
        return Started(again, resumed=True)  # it is promoted once more, nothing is asked
    signature, _ = signatures(parts)
    check_budget(parts)
    others = _unfinished(parts)
    with ExitStack() as alone:
        for old in others:
            alone.enter_context(parts.runs.alone(old.run_id))
        return Started(_freeze(parts, judge, _taken_over(parts, others, signature)))


def may_have_changed(parts: JobParts, schema: pa.Schema) -> bool:
    """Whether the rows, or what they name, may be others now, without the input's version telling."""
    job = parts.declared.job
    where = job.input.where
    return names_images(job.images, schema) or (where is not None and parts.warehouse.may_change(parts.source, where))


@dataclass(frozen=True, slots=True)
class Standing:
    """The job's run over the input as it is; at most one of both."""

    unfinished: RunRecord | None = None  # to go on with
    finished: RunRecord | None = None  # nothing is to be asked, unless what its rows name has changed


def standing(parts: JobParts, version: str) -> Standing:
    """Whether the job, as it is, was begun or done with this version of its input; blocking."""
    signature, shape = signatures(parts)
    records = earlier_runs(parts)
    same = [record for record in records if _same_run(record, signature, shape, version)]
    unfinished = next((record for record in same if record.state is RunState.PLANNED), None)
    if unfinished is not None:
        return Standing(unfinished)
    finished = same[0] if same and same[0] is records[0] and same[0].state is RunState.FINISHED else None
    if finished is not None and has_grown(parts, finished):
        return Standing(finished)
    return Standing(finished=finished)


def looked_in(parts: JobParts) -> tuple[str, ...]:
    """The runs in which a new run would look for answers, beside the output; blocking."""
    ended = _found_in(parts, _unfinished(parts))
    return tuple(dict.fromkeys([*ended, *_answered_before(parts, *signatures(parts))]))


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
    check_owner(parts)
    return schema, info.version


def check_budget(parts: JobParts) -> None:
    """Refuse a budget that pays for no row, however short: such a run asks nothing however often it is started."""
    job = parts.declared.job
    if job.budget_usd is None or parts.price is None:
        return
    cap = parts.output_length.cap() if job.params.learns_cap else job.params.declared_cap
    longest = longest_answer(parts, Cost(0, 0, cap))
    held_usd = parts.price.cost(least_input(parts), longest, 0)
    if job.budget_usd < held_usd:
        held = in_full(held_usd)
        aside = f"the dearest answer is set aside, here {longest:,} tokens and what surrounds a prompt, {held} USD"
        helps = f", or set params.max_output_tokens {'lower' if job.params.declared_cap else 'to a number'}"
        if job.is_embedding:
            aside, helps = f"the dearest bill is set aside, here {held} USD for what surrounds a prompt", ""
        raise ConfigurationError(
            f"budget_usd {in_full(job.budget_usd)} pays for no row: before each call {aside}, with the prompt on top. "
            f"Raise budget_usd above {held}{helps}. Nothing was spent"
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


def _same_run(record: RunRecord, signature: str, shape: str, version: str) -> bool:
    """The record is an execution of this very job over this very input."""
    return (record.signature, record.shape, record.input_version) == (signature, shape, version)


def freeze_spec(parts: JobParts, run_id: str) -> FreezeSpec:
    """What to freeze, in slices of about ten minutes of work when several share the limit; blocking."""
    where = row_filter(parts)
    rows = parts.declared.job.slices.rows or _rows_per_slice(parts, where)
    return FreezeSpec(run_id, parts.source, parts.key, parts.columns, where, rows)


def _freeze(parts: JobParts, judge: AnyJudge, ended: list[RunRecord]) -> RunRecord:
    """A new run that has the paid answers of the ``ended`` ones, which are published."""
    job = parts.declared.job
    signature, shape = signatures(parts)
    now = parts.clock.now()
    parts.runs.sweep()
    run_id = f"{job.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    frozen: FrozenInput = parts.warehouse.freeze(freeze_spec(parts, run_id))
    if not frozen.slices:  # an empty table is an output as well
        parts.warehouse.publish(run_id, 0, iter(()), parts.output_schema(check(parts)[0]))
    supersedes = tuple(dict.fromkeys([*_found_in(parts, ended), *_answered_before(parts, signature, shape)]))
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
        created_at=_after_earlier_ones(parts, now),
        planned=planned(parts, seen, parts.learning.known).as_data(),
        user=job.user,
        prices=prices_in_force(parts),
    )
    parts.runs.save(record)
    for old in ended:  # only now: a crash before this line leaves them to be taken over again
        parts.runs.change(old.run_id, state=RunState.SUPERSEDED)
    return record


def _after_earlier_ones(parts: JobParts, now: datetime) -> datetime:
    """The newest run is the one that began last, also by a clock that was set back since."""
    newest = max((old.created_at for old in parts.runs.all(parts.declared.job.name)), default=None)
    return now if newest is None else max(now, newest + timedelta(microseconds=1))


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


def _taken_over(parts: JobParts, unfinished: list[RunRecord], signature: str) -> list[RunRecord]:
    """Publish what unfinished runs have in their journals, each as the job was then: the runs that may end with that.

    One whose answers nobody can read any more, for its provider is gone, stays unfinished: they are not lost.
    """
    ended = []
    for old in unfinished:
        try:
            _publish_journals(parts, old)
        except (InputError, OutputError):
            raise
        except ConfigurationError as error:
            if old.signature == signature:
                raise  # answers to this very question: else they would be paid again
            _log.warning(
                "run %s has answers to an earlier question of the job; it is left unfinished, and its answers stay in "
                "its journal: %s",
                old.run_id,
                error,
            )
        else:
            ended.append(old)
    return ended


def _found_in(parts: JobParts, ended: list[RunRecord]) -> tuple[str, ...]:
    """The runs to look in for answers of ended ones."""
    kind = parts.declared.job.kind
    of_use = (old for old in ended if old.job.get("kind", kind) == kind)
    return tuple(dict.fromkeys(run_id for old in of_use for run_id in (old.run_id, *old.supersedes)))


def _answered_before(parts: JobParts, signature: str, shape: str) -> tuple[str, ...]:
    """Runs that ended and asked the same question, newest first, where the output may not hold all their answers.

    It does when nobody else changed it since the job did, and no run of another question or shape came between.
    """
    found: list[str] = []
    is_whole = _is_as_left(parts)
    for old in earlier_runs(parts):
        is_whole = is_whole and (old.signature, old.shape) == (signature, shape)
        if not is_whole and old.signature == signature and old.state is not RunState.PLANNED:
            found.append(old.run_id)
    return tuple(found[:LOOKED_IN_RUNS])


def _is_as_left(parts: JobParts) -> bool:
    """Whether the output is as the job's last promotion left it."""
    last = max((old.promoted for old in parts.runs.all(parts.declared.job.name)), default="")
    return bool(last) and last.partition(" ")[2] == parts.warehouse.output_version(parts.output)


def _publish_journals(parts: JobParts, old: RunRecord) -> None:
    numbers = [number for number in range(len(old.slice_rows)) if not parts.runs.is_published(old.run_id, number)]
    if not numbers:
        return
    then = parts.as_declared(declare(old.job, Path(old.job_dir)))  # frozen, asked and paid as the job was
    as_it_was = replace(then.parts, source=old.source, warehouse=parts.warehouse, runs=parts.runs)
    with ExitStack() as opened:
        if as_it_was.answers is not None:
            opened.callback(as_it_was.answers.close)
        for number in numbers:
            work = SliceWork(as_it_was, then.judge, old, number)
            work.open(reopen_below=None)
            with closing(work):
                publish_slice(work, Pending.because(None))


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
