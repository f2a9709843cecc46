"""The job: what a user declares. One pydantic model for YAML and Python.

Belongs here: the fields, their types, the rules of one field. Not here: rules between fields (rules.py), reading
files and telling lines (load.py), the prompt (template.py), the answer's schema (schema.py).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from batch_llm.config.secrets import SecretReference, mask
from batch_llm.job.date_partitions import Cadence, day_of

__all__ = [
    "Checks",
    "Input",
    "Job",
    "Output",
    "Params",
    "Prompt",
    "Retries",
    "Schedule",
    "Slices",
    "Watch",
    "job_json_schema",
]

JOB_NAME = r"^[a-z][a-z0-9_]{0,62}$"
DURATION = r"^[1-9][0-9]{0,4}[mhd]$"
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[list[Column], Field(min_length=1)]
ProviderAndModel = Annotated[str, Field(pattern=r"^[^/\s]+/\S+$")]

# minute, hour, day of month, month, day of week: smallest, largest
_CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_NAMES = {
    name: str(number)
    for names, first in (("jan feb mar apr may jun jul aug sep oct nov dec", 1), ("sun mon tue wed thu fri sat", 0))
    for number, name in enumerate(names.split(), first)
}


class _Part(BaseModel):
    """A part of the job file: unknown keys are refused, types are never guessed, values never change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,  # "64" is no number and true is no 1: a quote too many is told, not repaired
        allow_inf_nan=False,
        hide_input_in_errors=True,  # pydantic's own text would quote a literal secret
    )


class Input(_Part):
    """Where the rows come from."""

    table: str | None = Field(
        default=None,
        min_length=1,
        description="A warehouse table (dataset.table), or a file or glob (.parquet .csv .jsonl .arrow) relative to "
        "the job file. Absent when `watch` names the tables.",
    )
    key: Columns = Field(
        description="Columns that together name a row: unique and never null, checked before any call."
    )
    where: str | None = Field(default=None, min_length=1, description="A filter in the warehouse's SQL.")
    partition: str | None = Field(
        default=None,
        description="One day, week or month of a job with `schedule.cadence`, by its first day: 2026-01-03. Rather "
        "given where the job is started: `--partition`.",
    )


class Prompt(_Part):
    """What is asked of each row: Jinja2 templates over the row's columns."""

    system: str | None = Field(default=None, min_length=1, description="The system message.")
    user: str | None = Field(default=None, min_length=1, description="The user message.")
    user_file: str | None = Field(
        default=None, min_length=1, description="A file with the user message, relative to the job file."
    )

    @model_validator(mode="after")
    def _one_user_message(self) -> Prompt:
        if (self.user is None) == (self.user_file is None):
            raise ValueError("give either `user` or `user_file`")
        return self


def _which_cap(value: Any) -> str:
    return "<auto>" if isinstance(value, str) else "<tokens>"


class Params(_Part):
    """What is asked of the model beside the prompt, by the same names for every provider."""

    temperature: float | None = Field(default=None, ge=0, le=2, description="0: the most likely words; 2: the wildest.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Only words of this total probability.")
    max_output_tokens: (
        Annotated[
            Annotated[Literal["auto"], Tag("<auto>")] | Annotated[int, Field(ge=1), Tag("<tokens>")],
            Discriminator(_which_cap),
        ]
        | None
    ) = Field(default=None, description="The longest answer, tokens; auto: a cap learned from the answers.")
    seed: int | None = Field(default=None, description="For providers that can repeat an answer.")
    stop: list[Column] | None = Field(default=None, min_length=1, max_length=4, description="Texts that end an answer.")
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, description="Against repeating words.")
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, description="Against repeating subjects.")
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = Field(
        default=None, description="How long a reasoning model thinks."
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=65_536,
        description="Numbers per vector; of embedding jobs, which take no other parameter.",
    )

    @property
    def declared_cap(self) -> int | None:
        """The longest answer, tokens, as a number that the job declares; None: none, or a learned one."""
        return self.max_output_tokens if isinstance(self.max_output_tokens, int) else None

    @property
    def learns_cap(self) -> bool:
        """Whether the longest answer is learned (`max_output_tokens: auto`)."""
        return self.max_output_tokens == "auto"


class Output(_Part):
    """Where the answers go, and what shape they have."""

    model_config = ConfigDict(populate_by_name=True)

    table: str = Field(min_length=1, description="A warehouse table, or a .parquet path (rewritten atomically).")
    answer_schema: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="JSON Schema, or the short form {column: type | {enum: [..]}}. Absent: one column `response`.",
    )
    mode: Literal["upsert", "replace", "append_missing"] = Field(
        default="upsert",
        description="upsert by key | replace: exactly this run's keys | append_missing: only keys that are not there.",
    )
    keep: list[Column] = Field(default_factory=list, description="Input columns passed through to the output.")


class Slices(_Part):
    """How the input is cut: by minutes of work, or by rows."""

    target_minutes: float | None = Field(default=None, gt=0, description="Minutes of work per slice at the limit (10).")
    rows: int | None = Field(default=None, ge=1, description="Rows per slice.")

    @model_validator(mode="after")
    def _cron_or_cadence(self) -> Slices:
        if self.target_minutes is not None and self.rows is not None:
            raise ValueError("give either `target_minutes` or `rows`")
        return self


class Retries(_Part):
    """How often a row is tried."""

    attempts: int = Field(default=5, ge=1, le=20, description="Attempts for transient errors.")
    re_asks: int = Field(default=2, ge=0, le=10, description="Paid re-asks when an answer breaks the schema.")


class Schedule(_Part):
    """When the job starts by itself: by cron, or a date partition of its input at a time."""

    cron: str | None = Field(
        default=None,
        min_length=1,
        description="Five cron fields, UTC; with `cadence` when to start its latest partition.",
    )
    cadence: Cadence | None = Field(
        default=None, description="The input is run by the days, weeks or months of a date column."
    )
    column: str | None = Field(
        default=None, min_length=1, description="That column: a DATE, DATETIME or TIMESTAMP of the input."
    )
    start: str | None = Field(
        default=None, description="The first day of the first partition: 2026-01-01. Weeks begin on its weekday."
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None:
            _check_cron(cron)
        return cron

    @field_validator("start")
    @classmethod
    def _a_day(cls, start: str | None) -> str | None:
        if start is not None and day_of(start) is None:
            raise ValueError(f"{mask(start)} is no day such as 2026-01-01")
        return start

    @model_validator(mode="after")
    def _cron_or_cadence(self) -> Schedule:
        if self.cron is None and self.cadence is None:
            raise ValueError("give either `cron` or `cadence`")
        with_cadence = [self.column is not None, self.start is not None]
        if self.cadence is None and any(with_cadence):
            raise ValueError("`column` and `start` go with `cadence`")
        if self.cadence is not None and not all(with_cadence):
            raise ValueError("`cadence` needs `column` (the date column) and `start` (its first day, 2026-01-01)")
        if self.cadence == "monthly" and not str(self.start).endswith("-01"):
            raise ValueError("months begin on their first day: let `start` be one, such as 2026-01-01")
        return self


class Watch(_Part):
    """Which tables start the job when they appear or change; stands in `input.table`'s place."""

    tables: str = Field(min_length=1, description="A table pattern (raw.reports_*) or a file glob.")
    on: Literal["new", "changed"] = Field(default="new", description="new tables only, or changed ones as well.")


class Checks(_Part):
    """When a result counts as bad."""

    max_failed_share: float | None = Field(default=None, ge=0, le=1, description="Largest share of failed rows.")
    block_promotion: bool = Field(default=False, description="Leave the output table alone when the check fails.")


class Job(_Part):
    """What a user declares: input table, prompt, model, output table.

    Attributes are the keys of the job file, in its order. All money is in US dollars.
    """

    name: str = Field(
        pattern=JOB_NAME, description="the job's name: a letter a-z first, then a-z, 0-9 and _, at most 63 in all"
    )
    input: Input = Field(description="Where the rows come from.")
    prompt: Prompt = Field(description="What is asked of each row.")
    model: ProviderAndModel = Field(
        description="provider name / model, as in the providers file (openai/gpt-4.1-mini); never guessed"
    )
    params: Params = Field(default_factory=Params, description="Sampling parameters, or the size of vectors.")
    output: Output = Field(description="Where the answers go, and what shape they have.")
    budget_usd: Decimal | None = Field(
        default=None, gt=0, strict=False, description="The run may not cost more, US dollars."
    )
    user: str = Field(default="default", min_length=1, description="A label for fair share and reports.")
    priority: Literal["low", "normal", "high"] = Field(default="normal", description="Which jobs of a user go first.")
    weight: float = Field(default=1, gt=0, description="The share of the limit, against other jobs.")
    slices: Slices = Field(default_factory=Slices, description="How the input is cut.")
    retries: Retries = Field(default_factory=Retries, description="How often a row is tried.")
    schedule: Schedule | None = Field(default=None, description="When the job starts by itself.")
    watch: Watch | None = Field(default=None, description="Which tables start the job; in place of `input.table`.")
    checks: Checks = Field(default_factory=Checks, description="When a result counts as bad.")
    freshness: str | None = Field(
        default=None,
        pattern=DURATION,
        description="how old the output may become: minutes, hours or days (30m, 24h, 7d)",
    )
    notify: list[SecretReference] = Field(
        default_factory=list, description="apprise URLs, by reference only: ${env:NAME}"
    )
    cache: Literal["user", "off"] = Field(
        default="user", description="user: identical rows are asked once, never shared across users | off"
    )
    samples: Literal["keys", "rows"] = Field(
        default="keys", description="What logs, events and sample tables may show of the text."
    )
    kind: Literal["chat", "embedding"] = Field(
        default="chat", description="chat: the prompt is answered | embedding: prompt.user is turned into a vector."
    )
    images: list[Column] = Field(
        default_factory=list, description="Columns with an image each: bytes, a URL or a path; null is none."
    )
    fallback: list[ProviderAndModel] = Field(
        default_factory=list,
        description="Models that answer, in this order, while those before them cannot.",
    )
    lane: Literal["standard", "flex", "batch", "auto"] = Field(
        default="auto", description="auto and standard are the same until flex and batch are available."
    )
    deadline: str | None = Field(
        default=None, pattern=DURATION, description="when the result is needed: 30m, 24h, 7d (not yet available)"
    )

    @model_validator(mode="after")
    def _input_or_watch(self) -> Job:
        if (self.input.table is None) == (self.watch is None):
            raise ValueError("give either `input.table` or `watch.tables` (or, from Python, hand the table over)")
        return self

    @property
    def is_embedding(self) -> bool:
        """Whether the job asks for vectors."""
        return self.kind == "embedding"

    @property
    def provider_name(self) -> str:
        """The part of `model` before the first slash."""
        return self.model.split("/", 1)[0]

    @property
    def model_name(self) -> str:
        """The part of `model` after the first slash."""
        return self.model.split("/", 1)[1]


def job_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a job file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Job.model_json_schema(by_alias=True),
        "title": "batch_llm job",
    }


def _check_cron(cron: str) -> None:
    fields = cron.split()
    if len(fields) != len(_CRON_RANGES):
        raise ValueError(f"cron has five fields (minute hour day month weekday), got {len(fields)}: {mask(cron)}")
    for field, (smallest, largest) in zip(fields, _CRON_RANGES, strict=True):
        for item in field.lower().split(","):
            if not _is_cron_item(item, smallest, largest):
                raise ValueError(
                    f"{mask(item)} in the cron {mask(cron)} is not {smallest}-{largest}, *, a range or a step"
                )


def _is_cron_item(item: str, smallest: int, largest: int) -> bool:
    named = re.sub("[a-z]{3}", lambda match: _CRON_NAMES.get(match[0], match[0]), item)
    match = re.fullmatch(r"(?:\*|([0-9]+)(?:-([0-9]+))?)(?:/([1-9][0-9]*))?", named)
    if match is None:
        return False
    first = int(match[1] or smallest)
    return smallest <= first <= int(match[2] or match[1] or largest) <= largest
