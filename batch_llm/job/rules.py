"""Rules of a job that need more than one field, and the features that have not landed.

Belongs here: what is told from the job alone. Not here: rules of one field (model.py), of the template (template.py) or
the schema (schema_rules.py), of the input's columns (load.py), of providers (config/providers_file.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePath

from batch_llm.config.problems import did_you_mean
from batch_llm.config.secrets import mask
from batch_llm.config.yaml_source import Place, Problem
from batch_llm.job.date_partitions import DatePartitions, day_of
from batch_llm.job.embedding import EMBEDDING_COLUMN, embedding_model
from batch_llm.job.model import Job
from batch_llm.job.schema import FREE_TEXT_COLUMN, RESERVED_PREFIX

__all__ = [
    "INPUT_SUFFIXES",
    "date_partitions",
    "is_file",
    "job_problems",
    "missing_columns",
    "not_yet_available",
    "partition_problems",
]

INPUT_SUFFIXES = (".parquet", ".csv", ".jsonl", ".arrow", ".feather")
OUTPUT_SUFFIX = ".parquet"
LIVE_VIEW = "__live"  # the view over what is done so far is the output's name with this
_OTHER_FILES = (
    ".json",
    ".ndjson",
    ".tsv",
    ".txt",
    ".xls",
    ".xlsx",
    ".ods",
    ".gz",
    ".bz2",
    ".zst",
    ".zip",
    ".orc",
    ".avro",
    ".db",
    ".duckdb",
    ".sqlite",
    ".ipc",
    ".md",
)
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}")
_PATTERN = re.compile(r"[A-Za-z_*?][A-Za-z0-9_*?-]*(\.[A-Za-z0-9_*?]+){0,2}")
_TAKEN = "the output has this column already"


def is_file(reference: str) -> bool:
    """Whether ``input.table`` or ``output.table`` names a file (or glob), not a warehouse table."""
    suffix = PurePath(reference).suffix.lower()
    return "/" in reference or "\\" in reference or suffix in INPUT_SUFFIXES or suffix in _OTHER_FILES


def job_problems(job: Job, answer_columns: Sequence[str] = ()) -> list[Problem]:
    """What is wrong between the fields; ``answer_columns``: those that the schema makes, for clashes of names."""
    return [
        *_table_problems(job),
        *_kind_problems(job),
        *_column_problems(job, answer_columns),
        *(Problem(("images", n), "is named twice") for n, name in enumerate(job.images) if name in job.images[:n]),
        *_fallback_problems(job),
        *_cadence_problems(job),
        *partition_problems(job),
    ]


def date_partitions(job: Job) -> DatePartitions | None:
    """The date partitions of the input; None for a job that runs all of it at once."""
    schedule = job.schedule
    if schedule is None or schedule.cadence is None:
        return None
    start = day_of(str(schedule.start))
    assert start is not None  # noqa: S101  the model let no other in
    return DatePartitions(schedule.cadence, start)


def partition_problems(job: Job) -> list[Problem]:
    """What is wrong with the one partition that the job is to run, if it names one."""
    key, here = job.input.partition, ("input", "partition")
    if key is None:
        return []
    partitions = date_partitions(job)
    if partitions is None:
        return [Problem(here, "goes with `schedule.cadence`; this job runs all of its input at once")]
    if partitions.called(key) is not None:
        return []
    day = day_of(key)
    if day is None:
        return [Problem(here, f"{mask(key)} is no day such as 2026-01-03")]
    near = partitions.holding(day)
    if near is None:
        return [Problem(here, f"{key} is before the first partition, schedule.start: {partitions.start}")]
    return [Problem(here, f"{key} begins no partition; it lies in the {partitions.cadence} partition {near.key}")]


def _fallback_problems(job: Job) -> Iterator[Problem]:
    """What of `fallback` makes no order of different models."""
    if job.fallback and job.is_embedding:
        yield Problem(
            ("fallback",),
            "an embedding job has none: vectors of two models cannot be compared with each other; remove the key",
        )
        return
    for number, model in enumerate(job.fallback):
        if model == job.model:
            yield Problem(("fallback", number), f"{mask(model)} is the job's own model; name others that answer for it")
        elif model in job.fallback[:number]:
            yield Problem(("fallback", number), f"{mask(model)} is named twice")


def _cadence_problems(job: Job) -> Iterator[Problem]:
    """What does not go with running an input partition by partition."""
    if date_partitions(job) is None:
        return
    if job.output.mode == "replace":
        yield Problem(
            ("output", "mode"),
            "`replace` would leave one partition's rows alone in the table; with `schedule.cadence` use `upsert`",
        )
    if job.watch is not None:
        yield Problem(("watch",), "does not go with `schedule.cadence`, which runs the partitions of one `input.table`")


def not_yet_available(job: Job) -> list[Problem]:
    """The declared features that have not landed."""
    asked: list[tuple[Place, bool, str]] = [
        (("lane",), job.lane not in ("auto", "standard"), f"the {job.lane} lane is"),
        (("deadline",), job.deadline is not None, "deadlines are"),
    ]
    return [Problem(path, f"{what} not yet available; remove the key") for path, wanted, what in asked if wanted]


def _table_problems(job: Job) -> Iterator[Problem]:
    if (job.input.table is None) == (job.watch is None):
        place: Place = ("input", "table") if job.watch is None else ("watch",)
        yield Problem(place, "give either `input.table` or `watch.tables`")
    if job.input.table is not None:
        yield from _input_problems(("input", "table"), job.input.table, pattern=False)
    if job.watch is not None:
        yield from _input_problems(("watch", "tables"), job.watch.tables, pattern=True)
    output, here = job.output.table, ("output", "table")
    if is_file(output):
        if PurePath(output).suffix.lower() != OUTPUT_SUFFIX or "://" in output or re.search(r"[*?\[\]]", output):
            yield Problem(here, f"{mask(output)} must be a warehouse table or one local {OUTPUT_SUFFIX} file")
    elif not _TABLE.fullmatch(output):
        yield Problem(here, f"{mask(output)} is no table name: letters, digits and _, with a dot after the dataset")
    elif output.endswith(LIVE_VIEW):
        yield Problem(here, f"names that end with {LIVE_VIEW} are kept for the view of what is done so far")


def _input_problems(path: Place, reference: str, *, pattern: bool) -> Iterator[Problem]:
    if "://" in reference:
        yield Problem(path, f"{mask(reference)} is a URL; give a warehouse table or a local file")
    elif is_file(reference):
        if PurePath(reference).suffix.lower() not in INPUT_SUFFIXES:
            yield Problem(
                path, f"{mask(reference)} is none of the kinds of file that can be read: {' '.join(INPUT_SUFFIXES)}"
            )
    elif not (_PATTERN if pattern else _TABLE).fullmatch(reference):
        hint = "; a pattern of tables goes into `watch`" if "*" in reference and not pattern else ""
        yield Problem(
            path, f"{mask(reference)} is no table (dataset.table) and no file ({' '.join(INPUT_SUFFIXES)}){hint}"
        )


def _kind_problems(job: Job) -> Iterator[Problem]:
    """What goes with a chat or with vectors only."""
    if not job.is_embedding:
        if job.params.dimensions is not None:
            yield Problem(("params", "dimensions"), "is for vectors: it goes with `kind: embedding`")
        return
    if job.prompt.system is not None:
        yield Problem(
            ("prompt", "system"), "an embedding job has no system message; what is to be embedded is `prompt.user`"
        )
    if job.output.answer_schema is not None:
        yield Problem(
            ("output", "schema"),
            f"an embedding job has one column, `{EMBEDDING_COLUMN}`, and no schema; remove the key",
        )
    for name in job.params.model_dump(exclude_none=True):
        if name != "dimensions":
            yield Problem(("params", name), "is for chats; an embedding job takes `params.dimensions` only")
    if job.images:
        yield Problem(("images",), "is for chats; an embedding job takes text only")
    yield from _dimensions_problems(job)


def _dimensions_problems(job: Job) -> Iterator[Problem]:
    known, asked, here = embedding_model(job.model_name), job.params.dimensions, ("params", "dimensions")
    if known is None:
        if asked is None:
            size = f"the size of the vectors of {mask(job.model)} is not known here"
            yield Problem(("model",), f"{size}; give it as `params.dimensions`")
        return
    if asked is not None and asked > known.dimensions:
        yield Problem(here, f"{asked:,} is more than the {known.dimensions:,} of {mask(job.model)}")
    elif asked is not None and not known.shortens:
        yield Problem(here, f"{mask(job.model)} takes no other size than its own {known.dimensions:,}; remove the key")


def _column_problems(job: Job, answer_columns: Sequence[str]) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for part, names in (("key", job.input.key), ("keep", job.output.keep)):
        for number, name in enumerate(names):
            path: Place = ("input", "key", number) if part == "key" else ("output", "keep", number)
            if name.lower() in taken:
                yield Problem(path, f"{mask(name)}: {_TAKEN}, as {taken[name.lower()]}")
            if name.lower().startswith(RESERVED_PREFIX):
                yield Problem(
                    path, f"{mask(name)}: names that begin with {RESERVED_PREFIX} are reserved; rename the column"
                )
            taken.setdefault(name.lower(), part)
    for name in answer_columns:
        if name.lower() in taken:
            free_text = job.output.answer_schema is None and name == FREE_TEXT_COLUMN
            path = ("output", "table") if free_text or job.is_embedding else _column_path(job, name)
            hint = "; give `output.schema` another name" if free_text else "; rename it in the schema"
            if job.is_embedding:
                hint = "; rename that column of the input"
            yield Problem(path, f"{mask(name)}: {_TAKEN}, as {taken[name.lower()]}{hint}")


def _column_path(job: Job, name: str) -> Place:
    full = (job.output.answer_schema or {}).get("type") == "object"
    return ("output", "schema", "properties", name) if full else ("output", "schema", name)


def missing_columns(job: Job, prompt_columns: Collection[str], available: Collection[str]) -> list[Problem]:
    """Columns that the key, `keep`, the prompt or `images` name and the input lacks."""
    problems = []
    named: list[tuple[Place, str, str]] = [
        *((("input", "key", number), name, "key column") for number, name in enumerate(job.input.key)),
        *((("output", "keep", number), name, "column") for number, name in enumerate(job.output.keep)),
        *((("prompt",), name, "column of the prompt") for name in sorted(prompt_columns)),
        *((("images", number), name, "column") for number, name in enumerate(job.images)),
    ]
    if job.schedule is not None and job.schedule.column is not None:
        named.append((("schedule", "column"), job.schedule.column, "column"))
    for path, name, what in named:
        if name not in available:
            problems.append(Problem(path, f"the input has no {what} {mask(name)}{did_you_mean(name, available)}"))
    return problems
