"""Rules between fields, and features that have not landed."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.job.model import Job
from batch_llm.job.rules import is_file, job_problems, missing_columns, not_yet_available


def job(**changes: Any) -> Job:
    data: dict[str, Any] = {
        "name": "tone",
        "input": {"table": "raw.reports", "key": ["id"]},
        "prompt": {"user": "Grade {{ text }}"},
        "model": "simulator/small",
        "output": {"table": "tone"},
    }
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        data[part] = {**data.get(part, {}), inner: value} if inner else value
    return Job.model_validate(data)


def told(*answer_columns: str, **changes: Any) -> dict[tuple[str | int, ...], str]:
    return {problem.path: problem.reason for problem in job_problems(job(**changes), answer_columns)}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("x.parquet", True),
        ("data/x", True),
        ("x_*.CSV", True),
        ("book.xlsx", True),
        ("raw.reports", False),
        ("reports", False),
        ("project-1.data.reports", False),
    ],
)
def test_files_and_tables_are_told_apart(reference: str, expected: bool) -> None:
    assert is_file(reference) is expected


@pytest.mark.parametrize(
    "table", ["raw.reports", "reports", "p-1.d.t", "x.parquet", "../in/*.csv", "a.jsonl", "/abs/b.arrow"]
)
def test_tables_and_files_are_accepted_as_input(table: str) -> None:
    assert told(input__table=table) == {}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("book.xlsx", "none of the kinds of file that can be read: .parquet .csv .jsonl .arrow"),
        ("folder/x", "none of the kinds of file"),
        ("gs://bucket/x.parquet", "is a URL"),
        ("raw.reports_*", "a pattern of tables goes into `watch`"),
        ("my table", "is no table (dataset.table) and no file"),
    ],
)
def test_another_input_is_refused(table: str, reason: str) -> None:
    assert reason in told(input__table=table)["input", "table"]


@pytest.mark.parametrize("tables", ["raw.reports_*", "in/*.parquet", "reports"])
def test_patterns_are_accepted_to_watch(tables: str) -> None:
    assert told(input={"key": ["id"]}, watch={"tables": tables}) == {}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("out.csv", "must be a warehouse table or one local .parquet file"),
        ("out_*.parquet", "must be a warehouse table or one"),
        ("s3://b/out.parquet", "must be a warehouse table or one"),
        ("my table", "is no table name"),
        ("tone__live", "are kept for the view"),
    ],
)
def test_another_output_is_refused(table: str, reason: str) -> None:
    assert reason in told(output__table=table)["output", "table"]


def test_no_column_of_the_output_has_two_meanings() -> None:
    assert told(input__key=["id", "ID"])["input", "key", 1] == "'ID': the output has this column already, as key"
    assert "as key" in told(output__keep=["a", "id"])["output", "keep", 1]
    assert (
        "as keep" in told("tone", output__keep=["Tone"], output__schema={"tone": "string"})["output", "schema", "tone"]
    )
    full = {"type": "object", "properties": {"id": {"type": "string"}}}
    assert "rename it in the schema" in told("id", output__schema=full)["output", "schema", "properties", "id"]
    assert "give `output.schema`" in told("response", output__keep=["response"])["output", "table"]
    assert "names that begin with llm_ are reserved" in told(output__keep=["llm_cost_usd"])["output", "keep", 0]


def test_missing_columns_are_told_by_their_use_with_the_nearest_name() -> None:
    problems = missing_columns(job(output__keep=["distrct"]), {"text"}, ["ID", "district", "text"])
    assert [(problem.path, problem.reason) for problem in problems] == [
        (("input", "key", 0), "the input has no key column 'id'; did you mean 'ID'?"),
        (("output", "keep", 0), "the input has no column 'distrct'; did you mean 'district'?"),
    ]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"kind": "embedding"}, ("kind",)),
        ({"images": ["chart"]}, ("images",)),
        ({"fallback": ["a/b"]}, ("fallback",)),
        ({"lane": "flex"}, ("lane",)),
        ({"lane": "batch"}, ("lane",)),
        ({"deadline": "24h"}, ("deadline",)),
        ({"schedule": {"cadence": "daily"}}, ("schedule", "cadence")),
    ],
)
def test_what_has_not_landed_is_refused_by_field(changes: dict[str, Any], path: tuple[str, ...]) -> None:
    problems = not_yet_available(job(**changes))
    assert [problem.path for problem in problems] == [path]
    assert "not yet available" in problems[0].reason


def test_what_has_landed_is_not_refused() -> None:
    landed = job(
        lane="standard",
        priority="high",
        weight=2,
        cache="off",
        freshness="24h",
        schedule={"cron": "0 6 * * *"},
        checks={"max_failed_share": 0.1, "block_promotion": True},
        notify=["${env:X}"],
        samples="rows",
        budget_usd=5,
    )
    assert not_yet_available(landed) == []
