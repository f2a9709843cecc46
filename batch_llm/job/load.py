"""A job from a YAML file or from Python: read, checked, ready to plan.

Belongs here: `DeclaredJob`, `load_job`, `declare`, where a problem stands in the file. Not here: the rules themselves
(model.py, rules.py, template.py, schema.py), anything that opens a table or a provider.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batch_llm.config.problems import did_you_mean, error_for, explain
from batch_llm.config.providers_file import PoolSpec, ProvidersFile, ProviderSpec, find_pools
from batch_llm.config.secrets import mask
from batch_llm.config.yaml_source import Problem, Source, YamlProblem, dump_yaml, parse_yaml, read_text
from batch_llm.errors import InputError, JobFileError, NotYetAvailable
from batch_llm.job.date_partitions import DatePartition, DatePartitions
from batch_llm.job.embedding import EmbeddingAnswer, embedding_model
from batch_llm.job.model import Job, job_json_schema
from batch_llm.job.rules import (
    date_partitions,
    is_file,
    job_problems,
    missing_columns,
    not_yet_available,
    partition_problems,
)
from batch_llm.job.schema import AnswerSchema, SchemaError
from batch_llm.job.template import PromptError, PromptTemplate

__all__ = ["DeclaredJob", "declare", "dump_job", "find_jobs", "job_json_schema", "load_job"]

JOB_IN_FOLDER = "job.yaml"
JOB_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class DeclaredJob:
    """A job that passed every check that needs neither its input nor a provider."""

    job: Job
    directory: Path  # absolute; the job's relative paths resolve here
    path: Path | None = None  # the job file; None when declared in Python
    user_template: str = ""  # the user message's template, `user_file` already read
    source: Source = field(default_factory=lambda: Source("job", None), repr=False, compare=False)

    @cached_property
    def prompt(self) -> PromptTemplate:
        """The compiled prompt."""
        return PromptTemplate(self.job.prompt.system, self.user_template)

    @cached_property
    def answer(self) -> AnswerSchema:
        """The shape of the answers; of an embedding job an `EmbeddingAnswer`."""
        if self.job.is_embedding:
            known = embedding_model(self.job.model_name)
            return EmbeddingAnswer(self.job.params.dimensions or (known.dimensions if known else 1))
        return AnswerSchema.from_declared(self.job.output.answer_schema)

    @cached_property
    def partitions(self) -> DatePartitions | None:
        """The date partitions of the input; None for a job that runs all of it at once."""
        return date_partitions(self.job)

    @property
    def partition(self) -> DatePartition | None:
        """The one that is to run; None when none is chosen, or there are none."""
        key = self.job.input.partition
        return None if key is None or self.partitions is None else self.partitions.called(key)

    def job_data(self) -> dict[str, Any]:
        """The job as plain JSON data that `declare` takes, with the text of ``user_file`` in its place.

        Secret references stay references. Declared again in the same directory, the job is the same, also when the
        file with the prompt has changed since.
        """
        data = self.job.model_dump(mode="json", by_alias=True)
        data["prompt"].update(user=self.user_template, user_file=None)
        return data

    def resolve(self, reference: str) -> str:
        """A table's name as it is; a file or glob as an absolute path."""
        if not is_file(reference):
            return reference
        return os.path.normpath(self.directory / os.path.expanduser(reference))

    def with_table(self, reference: str) -> DeclaredJob:
        """The same job over another input, in the place of its own `input.table` or `watch`."""
        changed = {"input": self.job.input.model_copy(update={"table": reference}), "watch": None}
        return replace(self, job=self.job.model_copy(update=changed))

    def with_partition(self, key: str) -> DeclaredJob:
        """The same job over one of its date partitions. Raises `JobFileError` when there is none of that name."""
        found = self._over(key)
        problems = partition_problems(found.job)
        if problems:
            raise JobFileError(self.source.message(problems))
        return found

    def asking(self, model: str) -> DeclaredJob:
        """The same job as if it named this model and no other."""
        return replace(self, job=self.job.model_copy(update={"model": model, "fallback": []}))

    def without_partition(self) -> DeclaredJob:
        """The same job before a date partition was chosen."""
        return self._over(None)

    def _over(self, partition: str | None) -> DeclaredJob:
        changed = self.job.input.model_copy(update={"partition": partition})
        return replace(self, job=self.job.model_copy(update={"input": changed}))

    def check_columns(self, available: Collection[str]) -> None:
        """Raise `InputError` when the input lacks a column of the key, of ``keep`` or of the prompt."""
        problems = missing_columns(self.job, self.prompt.columns, available)
        if problems:
            raise InputError(f"{self.source.message(problems)}\ncolumns of the input: {', '.join(available)}")

    def pools(self, providers: ProvidersFile) -> tuple[ProviderSpec, tuple[PoolSpec, ...]]:
        """As `find_pools`; a job's mistake is told with the line of ``model``."""
        try:
            return find_pools(providers, self.job.provider_name, self.job.model_name)
        except JobFileError as error:
            reason = str(error)
        raise JobFileError(self.source.message([Problem(("model",), reason)]))


def load_job(path: str | Path, table: str | None = None) -> DeclaredJob:
    """Read and check a job file, or ``job.yaml`` of a folder.

    Args:
        path: The file or folder.
        table: The input, in the place of the file's own `input.table` or `watch`, which may then be absent.

    Raises:
        JobFileError: The file is missing or wrong; every problem is named with file, line, field and value.
        SecretError: A literal stands where a reference must; never shows it.
        NotYetAvailable: A documented feature that has not landed, by field and line.
    """
    given = Path(path)
    file = given / JOB_IN_FOLDER if given.is_dir() else given
    try:
        source = parse_yaml(read_text(file), str(file))
    except FileNotFoundError:
        raise JobFileError(f"{file}: there is no such job file{_neighbour(file)}") from None
    except OSError as error:
        raise JobFileError(f"{file}: cannot be read ({error.strerror})") from None
    except YamlProblem as error:
        raise JobFileError(f"{file}:{error.line}: {error.reason}") from None
    job = _validated(source, table)
    if isinstance(source.data.get("budget_usd"), str):  # from Python, text is exact money
        reason = f"must be a number, got {mask(source.data['budget_usd'])}"
        raise JobFileError(source.message([Problem(("budget_usd",), reason)]))
    return _declare(job, file.absolute().parent, file, source)


def declare(data: Mapping[str, Any] | Job, directory: str | Path, table: str | None = None) -> DeclaredJob:
    """Check a job that comes from Python: the keys of the job file as a dict, or a `Job`.

    Args:
        data: The job.
        directory: What its relative paths are relative to.
        table: As for `load_job`.

    Raises:
        JobFileError, SecretError, NotYetAvailable: As `load_job`, with the job's name in the file's place.
    """
    if isinstance(data, Job):
        source = Source(f"job {data.name}", None)
        job = data
    else:
        name = data.get("name") if isinstance(data, Mapping) else None
        source = Source(f"job {name}" if isinstance(name, str) and len(name) < 64 else "job", data)
        job = _validated(source, table)
    declared = _declare(job, Path(directory).absolute(), None, source)
    return declared if table is None else declared.with_table(table)


def dump_job(job: Job) -> str:
    """The job as a job file, defaults left out; reads back equal."""
    data = job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if job.budget_usd is not None:
        data["budget_usd"] = float(job.budget_usd)
    return dump_yaml(data)


def find_jobs(directory: Path) -> list[Path]:
    """The job files of a folder: its YAML files and the ``job.yaml`` of its folders, sorted; none if it is absent."""
    if not directory.is_dir():
        return []
    return sorted(
        entry / JOB_IN_FOLDER if entry.is_dir() else entry
        for entry in directory.iterdir()
        if (entry / JOB_IN_FOLDER).is_file() or (entry.suffix in JOB_SUFFIXES and entry.is_file())
    )


def _validated(source: Source, table: str | None) -> Job:
    if not isinstance(source.data, Mapping):
        raise JobFileError(f"{source.name}: must be a mapping with name, input, prompt, model and output")
    data = dict(source.data)
    if table is not None and isinstance(data.get("input"), Mapping):
        data["input"] = {**data["input"], "table": table}
        data.pop("watch", None)
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        problems = explain(error, Job)
    raise error_for(problems, JobFileError)(source.message(problems))  # outside: the cause would hold the values


def _declare(job: Job, directory: Path, path: Path | None, source: Source) -> DeclaredJob:
    """All checks; mistakes are told together, before features that have not landed."""
    problems: list[Problem] = []
    declared = DeclaredJob(job, directory, path, _user_template(job, directory, problems), source)
    columns: tuple[str, ...] = ()
    try:
        columns = declared.answer.columns
    except SchemaError as error:
        problems.append(Problem(("output", "schema", *error.path), error.reason))
    problems += job_problems(job, columns)
    try:
        _ = declared.prompt
    except PromptError as error:
        problems.append(_prompt_problem(error, job, source))
    if job.input.table and declared.resolve(job.output.table) == declared.resolve(job.input.table):
        problems.append(Problem(("output", "table"), "is the input itself; answers go into a table of their own"))
    if problems:
        raise JobFileError(source.message(problems))
    missing = not_yet_available(job)
    if missing:
        raise NotYetAvailable(source.message(missing))
    return declared


def _user_template(job: Job, directory: Path, problems: list[Problem]) -> str:
    if job.prompt.user_file is None:
        return job.prompt.user or ""
    file = directory / os.path.expanduser(job.prompt.user_file)
    where, shown = ("prompt", "user_file"), mask(job.prompt.user_file)
    try:
        text = read_text(file)
    except OSError as error:
        problems.append(Problem(where, f"{shown} cannot be read ({error.strerror}; looked in {directory})"))
        return ""
    except YamlProblem as error:
        problems.append(Problem(where, error.reason, at=f"{job.prompt.user_file}:{error.line}"))
        return ""
    if not text.strip():
        problems.append(Problem(where, f"{shown} is empty"))
    return text


def _prompt_problem(error: PromptError, job: Job, source: Source) -> Problem:
    """Where a template's mistake stands: in the user file, in a ``|`` block of the job file, or at the key."""
    path = ("prompt", error.field)
    if error.field == "user" and job.prompt.user_file is not None:
        return Problem(("prompt", "user_file"), error.reason, at=f"{job.prompt.user_file}:{error.line}")
    first = source.blocks.get(path)
    if first is not None:
        return Problem(path, error.reason, at=source.where(path, line=first + error.line - 1))
    inside = f" (line {error.line} of the template)" if error.line > 1 else ""
    return Problem(path, f"{error.reason}{inside}")


def _neighbour(file: Path) -> str:
    if not file.parent.is_dir():
        return f"; there is no folder {file.parent} either"
    names = [str(found) for found in find_jobs(file.parent)]
    return did_you_mean(str(file), names) or (f"; there are: {', '.join(names[:10])}" if names else "")
