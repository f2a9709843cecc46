"""Rules between fields, and features that have not landed."""

from __future__ import annotations

from typing import Any

import pytest

from batch_llm.job.model import Job
from batch_llm.job.rules import INPUT_SUFFIXES, is_file, job_problems, missing_columns, not_yet_available
from batch_llm.warehouse.refs import FILE_SUFFIXES


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
    "table",
    [
        "raw.reports",
        "reports",
        "p-1.d.t",
        "x.parquet",
        "../in/*.csv",
        "a.jsonl",
        "/abs/b.arrow",
        "c.feather",
        "d.FEATHER",
    ],
)
def test_tables_and_files_are_accepted_as_input(table: str) -> None:
    assert told(input__table=table) == {}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("book.xlsx", "none of the kinds of file that can be read: .parquet .csv .jsonl .arrow .feather"),
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


VECTORS: dict[str, Any] = {"kind": "embedding", "model": "openai/text-embedding-3-small"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"params": {"dimensions": 256}},
        {"params": {"dimensions": 1536}},
        {"model": "openai/text-embedding-ada-002"},
        {"model": "router/openai/text-embedding-3-large", "params": {"dimensions": 3072}},
        {"model": "simulator/any", "params": {"dimensions": 8}},
    ],
)
def test_an_embedding_job_is_a_text_and_a_model_whose_vectors_have_a_known_size(changes: dict[str, Any]) -> None:
    assert told("embedding", **{**VECTORS, **changes}) == {}
    assert not_yet_available(job(**{**VECTORS, **changes})) == []


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"prompt__system": "You embed."}, ("prompt", "system"), "no system message"),
        ({"output__schema": {"tone": "string"}}, ("output", "schema"), "one column, `embedding`"),
        ({"params": {"temperature": 0}}, ("params", "temperature"), "`params.dimensions` only"),
        ({"params": {"max_output_tokens": 5}}, ("params", "max_output_tokens"), "is for chats"),
        ({"model": "simulator/any"}, ("model",), "is not known here; give it as `params.dimensions`"),
        ({"params": {"dimensions": 1537}}, ("params", "dimensions"), "1,537 is more than the 1,536"),
        (
            {"model": "openai/text-embedding-ada-002", "params": {"dimensions": 1536}},
            ("params", "dimensions"),
            "takes no other size than its own 1,536; remove the key",
        ),
        ({"output__keep": ["embedding"]}, ("output", "table"), "rename that column of the input"),
    ],
)
def test_what_does_not_go_with_vectors_is_told_by_its_key(
    changes: dict[str, Any], path: tuple[str, ...], reason: str
) -> None:
    problems = told("embedding", **{**VECTORS, **changes})
    assert list(problems) == [path]
    assert reason in problems[path]


def test_a_chat_has_no_dimensions() -> None:
    assert "goes with `kind: embedding`" in told(params={"dimensions": 8})["params", "dimensions"]


def test_missing_columns_are_told_by_their_use_with_the_nearest_name() -> None:
    problems = missing_columns(job(output__keep=["distrct"]), {"text"}, ["ID", "district", "text"])
    assert [(problem.path, problem.reason) for problem in problems] == [
        (("input", "key", 0), "the input has no key column 'id'; did you mean 'ID'?"),
        (("output", "keep", 0), "the input has no column 'distrct'; did you mean 'district'?"),
    ]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"lane": "flex"}, ("lane",)),
        ({"lane": "batch"}, ("lane",)),
        ({"deadline": "24h"}, ("deadline",)),
    ],
)
def test_what_has_not_landed_is_refused_by_field(changes: dict[str, Any], path: tuple[str, ...]) -> None:
    problems = not_yet_available(job(**changes))
    assert [problem.path for problem in problems] == [path]
    assert "not yet available" in problems[0].reason


def test_a_fallback_is_another_model_each_named_once_and_none_of_vectors() -> None:
    assert told(fallback=["azure/gpt-4.1-mini", "google/gemini"]) == {}
    model = job().model
    assert told(fallback=["a/b", model])["fallback", 1] == (
        f"{model!r} is the job's own model; name others that answer for it"
    )
    assert told(fallback=["a/b", "a/c", "a/b"]) == {("fallback", 2): "'a/b' is named twice"}
    assert "cannot be compared" in told(fallback=["a/b"], kind="embedding")["fallback",]


def test_images_are_columns_of_the_input_each_named_once_and_no_matter_of_vectors() -> None:
    assert told(images=["chart", "chart"])["images", 1] == "is named twice"
    assert "takes text only" in told(images=["chart"], kind="embedding")["images",]
    (problem,) = missing_columns(job(images=["chrt"]), {"text"}, ["id", "district", "text", "chart"])
    assert (problem.path, problem.reason) == (
        ("images", 0),
        "the input has no column 'chrt'; did you mean 'chart'?",
    )


DAILY = {"cadence": "daily", "column": "day", "start": "2026-01-01"}


def test_a_cadence_is_refused_with_what_it_does_not_go_with() -> None:
    assert told(schedule=DAILY) == {}
    assert "use `upsert`" in told(schedule=DAILY, output__mode="replace")["output", "mode"]
    watched = {"schedule": DAILY, "input": {"key": ["id"]}, "watch": {"tables": "raw.reports_*"}}
    assert "does not go with `schedule.cadence`" in told(**watched)["watch",]


@pytest.mark.parametrize(
    ("partition", "cadence", "reason"),
    [
        ("2026-01-03", None, "goes with `schedule.cadence`"),
        ("3.1.2026", "daily", "is no day such as 2026-01-03"),
        ("2025-12-31", "daily", "before the first partition, schedule.start: 2026-01-01"),
        ("2026-01-03", "weekly", "begins no partition; it lies in the weekly partition 2026-01-01"),
        ("2026-02-03", "monthly", "begins no partition; it lies in the monthly partition 2026-02-01"),
    ],
)
def test_a_partition_that_is_none_is_told_with_the_nearest(partition: str, cadence: str | None, reason: str) -> None:
    changes = {} if cadence is None else {"schedule": {**DAILY, "cadence": cadence}}
    assert reason in told(input__partition=partition, **changes)["input", "partition"]


def test_a_missing_date_column_is_told_with_the_nearest() -> None:
    problems = missing_columns(job(schedule=DAILY), {"text"}, ["id", "days", "text"])
    assert [(problem.path, problem.reason) for problem in problems] == [
        (("schedule", "column"), "the input has no column 'day'; did you mean 'days'?")
    ]


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


def test_a_job_may_name_every_kind_of_file_that_a_warehouse_reads() -> None:
    assert set(FILE_SUFFIXES) == set(INPUT_SUFFIXES)
