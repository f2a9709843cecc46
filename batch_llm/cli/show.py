"""All there is to know of one row: prompt, attempts, raw answers, parsed columns, cost.

Belongs here: gathering it from frozen slice, journal and published rows, and wording it. Not here: finding the job
(jobs.py), reading a key (keys.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_llm.cli.jobs import KnownRun, known_run, run_of
from batch_llm.cli.keys import find_key, parse_key
from batch_llm.cli.speech import one_line, plain, print_json, say, table
from batch_llm.cli.vectors import shortened, vector_in_words
from batch_llm.errors import ConfigurationError, JournalError, OutputError

if TYPE_CHECKING:
    from batch_llm.job.load import DeclaredJob
    from batch_llm.journal.base import Entry, RunRecord

__all__ = ["RowStory", "rows_answered", "show_row", "story_in_words", "story_of"]


@dataclass(frozen=True, slots=True)
class _RowPlace:
    """Where a row stands in a frozen input."""

    slice_number: int
    row: int  # 0-based position in the slice
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowStory:
    """One row from prompt to result; keys of ``show --json``."""

    job: str
    run_id: str  # the run that asked the row
    slice: int
    row: int
    key: dict[str, Any]
    prompt: list[dict[str, str]]  # role, content
    attempts: list[dict[str, Any]]  # one per journal entry
    answers: list[str]  # raw bodies as they came, oldest first; of vectors only the beginning
    columns: dict[str, Any]  # the job's own answer columns
    result: dict[str, Any]  # the llm_* columns; empty before the slice is published

    def as_json(self) -> dict[str, Any]:
        """All of it, for ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


def show_row(reference: str, key_text: str, partition: str | None, *, json: bool) -> None:
    """``batch-llm show JOB KEY``."""
    run = known_run(reference, partition)
    story = story_of(run, parse_key(key_text, run.record.key))
    if json:
        print_json(story.as_json())
    else:
        say(story_in_words(story))


def story_of(run: KnownRun, key: tuple[str, ...]) -> RowStory:
    """Gather what is known of a row. Raises `ConfigurationError` when the run's input has no such key."""
    place = _locate(run, run.record, key)
    if place is None:
        wanted = ", ".join(f"{name}={value}" for name, value in zip(run.record.key, key, strict=True))
        raise ConfigurationError(
            f"no row with {wanted} among the {sum(run.record.slice_rows):,} input rows of {run.record.run_id}; "
            f"values are compared as text{_example(run)}{_of_partition(run.record)}"
        )
    stored = _published(run, place, key)
    asked, asked_at = _asked(run, stored, place, key)
    asked_in = asked.record.run_id
    stored_entries = run.store.runs.entries(asked_in, asked_at.slice_number)
    entries = [entry for entry in stored_entries if asked_at.row in entry.rows]
    columns, result = _split(run, stored)
    return RowStory(
        job=run.job,
        run_id=asked_in,
        slice=place.slice_number,
        row=place.row,
        key={name: place.values[name] for name in run.record.key},
        prompt=_prompt(asked.declared, asked_at.values),
        attempts=[_attempt(entry) for entry in entries],
        answers=[shortened(entry.body.decode("utf-8", "replace")) for entry in entries if entry.body],
        columns=columns,
        result=result,
    )


def _example(run: KnownRun) -> str:
    """A key that the input has."""
    from batch_llm.engine.parts import frozen_input

    frozen = frozen_input(run.record)
    for info in frozen.slices[:1]:
        for batch in run.store.warehouse.read(frozen, info.number, batch_rows=1):
            values = [f"{name}={batch.column(name)[0].as_py()}" for name in run.record.key]
            return f", for example {one_line(','.join(values), 200)}"
    return ""


def _of_partition(record: RunRecord) -> str:
    if record.partition is None:
        return ""
    return f". That run is of the partition {record.partition} only: name another one with --partition"


def rows_answered(run: KnownRun, limit: int) -> Iterator[tuple[str, ...]]:
    """The keys of the first rows of a run that have a result, as text."""
    batches = run.store.warehouse.rows(
        f"run:{run.record.run_id}", columns=run.record.key, where="llm_status <> 'pending'", limit=limit
    )
    for batch in batches:
        for values in zip(*(batch.column(name).to_pylist() for name in run.record.key), strict=True):
            yield tuple(str(value) for value in values)


def _locate(run: KnownRun, record: RunRecord, key: tuple[str, ...]) -> _RowPlace | None:
    from batch_llm.engine.parts import frozen_input

    frozen = frozen_input(record)
    for info in frozen.slices:
        start = 0
        for batch in run.store.warehouse.read(frozen, info.number):
            at = find_key(batch, record.key, key)
            if at is not None:
                return _RowPlace(info.number, start + at, batch.slice(at, 1).to_pylist()[0])
            start += batch.num_rows
    return None


def _published(run: KnownRun, place: _RowPlace, key: tuple[str, ...]) -> dict[str, Any]:
    """The row as it was published; empty before that."""
    try:
        rows = run.store.warehouse.rows(f"run:{run.record.run_id}", slice_number=place.slice_number)
    except OutputError:
        return {}
    for batch in rows:
        at = find_key(batch, run.record.key, key)
        if at is not None:
            row: dict[str, Any] = batch.slice(at, 1).to_pylist()[0]
            return row
    return {}


def _asked(run: KnownRun, stored: dict[str, Any], place: _RowPlace, key: tuple[str, ...]) -> tuple[KnownRun, _RowPlace]:
    """The run that asked the row, and where there: an earlier one, with its own question, for an answer taken over."""
    earlier = stored.get("llm_run_id")
    if earlier is None or earlier == run.record.run_id:
        return run, place
    try:
        record = run.store.runs.get(earlier)
        found = _locate(run, record, key)
    except JournalError:  # forgotten since
        found = None
    return (run_of(run.store, record), found) if found is not None else (run, place)


def _prompt(declared: DeclaredJob, values: dict[str, Any]) -> list[dict[str, str]]:
    from batch_llm.job.template import RenderError

    try:
        messages = declared.prompt.render(values)
    except RenderError as error:  # such a row has failed with class `template` and was never sent
        return [{"role": "error", "content": str(error)}]
    images = {name: values.get(name) for name in declared.job.images}
    return [
        *({"role": message.role, "content": message.content} for message in messages),
        *({"role": "image", "content": _image(name, value)} for name, value in images.items() if value is not None),
    ]


def _image(column: str, value: object) -> str:
    """An image's column and, where it is somewhere else, where; never its bytes."""
    return f"{column}: {len(value):,} bytes" if isinstance(value, bytes) else f"{column}: {value}"


def _attempt(entry: Entry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "attempt": entry.attempt,
        "what": entry.kind.value,
        "latency_s": entry.latency_s or None,
        "error_class": entry.detail.get("error_class"),
        "message": entry.detail.get("message"),
    }


def _split(run: KnownRun, stored: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job's own columns and the llm_* columns of a published row."""
    passed = {*run.record.key, *run.declared.job.output.keep}
    own = {name: value for name, value in stored.items() if not name.startswith("llm_") and name not in passed}
    return own, {name: value for name, value in stored.items() if name.startswith("llm_")}


def story_in_words(story: RowStory) -> str:
    """The page of one row."""
    key = ", ".join(f"{name}={value}" for name, value in story.key.items())
    lines = [f"{story.job}  {key}   run {story.run_id}, slice {story.slice}, row {story.row}"]
    for message in story.prompt:
        lines += ["", f"-- {message['role']} --", message["content"]]
    lines += ["", "-- attempts --", _attempts_table(story)]
    for position, body in enumerate(story.answers, 1):
        lines += ["", f"-- raw answer {position} of {len(story.answers)} --", body]
    lines += ["", "-- result --"]
    if not story.result:
        lines.append("not published yet")
    known = {name: value for name, value in story.result.items() if value is not None}
    lines += [f"{name:<26}{plain(vector_in_words(value))}" for name, value in {**story.columns, **known}.items()]
    return "\n".join(lines)


def _attempts_table(story: RowStory) -> str:
    if not story.attempts:
        return "none"
    rows = [
        [
            f"{attempt['at']:%Y-%m-%d %H:%M:%S}" if attempt["at"] else "",
            attempt["attempt"] or "",
            attempt["what"],
            f"{attempt['latency_s']:.2f}" if attempt["latency_s"] else "",
            " ".join(filter(None, (attempt["error_class"], attempt["message"]))),
        ]
        for attempt in story.attempts
    ]
    return table(["at (UTC)", "attempt", "what", "seconds", "error"], rows)
