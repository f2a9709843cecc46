"""A job file is read whole or refused whole, every problem with its place; Python means the same as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batch_llm.config.providers_file import load_providers
from batch_llm.config.yaml_source import parse_yaml
from batch_llm.errors import InputError, JobFileError, NotYetAvailable
from batch_llm.job.load import declare, dump_job, find_jobs, load_job
from batch_llm.job.model import Job
from batch_llm.job.schema import AnswerSchema
from tests.unit.job.job_file_lab import GOOD, load, refused

FULL = """\
name: beige_tone
input: {table: in/beige_*.parquet, key: [report_id], where: "year >= 2010"}
prompt: {system: "You grade {{ district }}.", user: "Grade:\\n{{ text }}"}
model: openai/gpt-4.1-mini
params: {temperature: 0, top_p: 0.5, max_output_tokens: 64, seed: 1, stop: [END], reasoning_effort: low}
output: {table: out/tone.parquet, schema: {tone: string}, mode: append_missing, keep: [district]}
budget_usd: 25.5
user: alice
priority: high
weight: 2
slices: {rows: 20000}
retries: {attempts: 3, re_asks: 0}
schedule: {cron: "0 6 * * *"}
checks: {max_failed_share: 0.02, block_promotion: true}
freshness: 24h
notify: ["${env:TEAM_SLACK_URL}"]
cache: off
samples: rows
kind: chat
lane: standard
"""


def test_a_job_file_is_read(tmp_path: Path) -> None:
    declared = load(tmp_path, GOOD)
    assert declared.job.name == "beige_tone"
    assert (declared.path, declared.directory) == (tmp_path / "x.yaml", tmp_path)
    assert declared.user_template == "Grade this report:\n{{ text }}\n"
    assert declared.prompt.columns == {"text"}
    assert declared.answer.columns == ("tone", "confidence")
    assert declared.resolve("beige_book.parquet") == str(tmp_path / "beige_book.parquet")
    assert declared.resolve("../in/*.csv") == str(tmp_path.parent / "in" / "*.csv")
    assert declared.resolve("raw.reports") == "raw.reports"


def test_every_documented_key_is_read(tmp_path: Path) -> None:
    job = load(tmp_path, FULL).job
    assert job.cache == "off"  # a word, not false
    assert (job.priority, job.weight, job.samples, job.freshness) == ("high", 2, "rows", "24h")
    assert job.params.model_dump(exclude_none=True) == {
        "temperature": 0,
        "top_p": 0.5,
        "max_output_tokens": 64,
        "seed": 1,
        "stop": ["END"],
        "reasoning_effort": "low",
    }


def test_the_directory_is_absolute_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "x.yaml").write_text(GOOD)
    declared = load_job("jobs/x.yaml")
    assert declared.directory == tmp_path / "jobs"
    assert declared.path == Path("jobs/x.yaml")


def test_watch_with_the_key_on_works(tmp_path: Path) -> None:
    text = GOOD.replace("  table: beige_book.parquet\n", "") + "watch: {tables: 'raw.reports_*', on: changed}\n"
    watch = load(tmp_path, text).job.watch
    assert watch is not None
    assert (watch.tables, watch.on) == ("raw.reports_*", "changed")


def test_a_folder_stands_for_its_job_file(tmp_path: Path) -> None:
    (tmp_path / "tone").mkdir()
    (tmp_path / "tone" / "job.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert load_job(tmp_path / "tone").directory == tmp_path / "tone"
    assert find_jobs(tmp_path) == [tmp_path / "b.yaml", tmp_path / "tone" / "job.yaml"]
    assert find_jobs(tmp_path / "gone") == []


def test_a_user_file_is_read_beside_the_job_file(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "p.md").write_text("Hello {{ name }}\n")
    text = GOOD.replace("  user: |\n    Grade this report:\n    {{ text }}\n", "  user_file: prompts/p.md\n")
    declared = load(tmp_path, text)
    assert declared.user_template == "Hello {{ name }}\n"
    (tmp_path / "prompts" / "p.md").write_text("changed")
    assert declare(declared.job_data(), tmp_path).user_template == "Hello {{ name }}\n"
    (tmp_path / "prompts" / "p.md").write_text("Hello\n{{ name")
    assert refused(tmp_path, text).startswith("prompts/p.md:2: unexpected end of template")
    (tmp_path / "prompts" / "p.md").write_bytes(b"\n\n\xff")
    assert refused(tmp_path, text).startswith("prompts/p.md:3: the file is not UTF-8")
    (tmp_path / "prompts" / "p.md").write_text(" \n")
    assert "x.yaml:7: prompt.user_file: 'prompts/p.md' is empty" in refused(tmp_path, text)
    (tmp_path / "prompts" / "p.md").unlink()
    assert "x.yaml:7: prompt.user_file: 'prompts/p.md' cannot be read (No such file" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  table: beige_tone\n",
            "  table: beige_tone\n  mode: upsrt\n",
            "x.yaml:13: output.mode: 'upsrt' is not one of upsert, replace, append_missing; did you mean 'upsert'?",
        ),
        ("output:", "outptu:", "x.yaml:11: outptu: unknown key 'outptu'; did you mean 'output'?"),
        ("output:", "outptu:", "x.yaml:1: output: is required"),
        ("name: beige_tone", "name: Beige-Tone", "x.yaml:1: name: 'Beige-Tone' does not fit: the job's name"),
        ("openai/gpt-4.1-mini", "gpt-4.1-mini", "x.yaml:10: model: 'gpt-4.1-mini' does not fit: provider name / model"),
        ("[report_id]", "report_id", "x.yaml:4: input.key: must be a list, got 'report_id'"),
        ("[report_id]", "[]", "x.yaml:4: input.key: must not be empty"),
        ("[report_id]", "[3]", "x.yaml:4: input.key[0]: must be text, got 3"),
        ("{{ text }}", "{{ text", "x.yaml:9: prompt.user: unexpected end of template"),
        ("You grade.", "'{% if %}'", "x.yaml:6: prompt.system: Expected an expression"),
        (
            "You grade.",
            '"a\\n{% if %}"',
            "x.yaml:6: prompt.system: Expected an expression, got 'end of statement block' (line 2 of the template)",
        ),
        ("[hawkish, neutral, dovish]", "[]", "x.yaml:13: output.schema.tone.enum: must be a list of 1 to 1000 values"),
        ("confidence: number", "confidence: nmber", "x.yaml:13: output.schema.confidence: 'nmber' is not one of"),
        (
            "confidence: number",
            "report_id: number",
            "x.yaml:13: output.schema.report_id: 'report_id': the output has this column",
        ),
        ("table: beige_tone\n", "table: ./beige_book.parquet\n", "x.yaml:12: output.table: is the input itself"),
        ("  table: beige_book.parquet\n", "", "x.yaml:2: input.table: give either `input.table` or `watch.tables`"),
        ("output:", "watch: {tables: x_*}\noutput:", "x.yaml:11: watch: give either `input.table` or `watch.tables`"),
        (
            "output:",
            "params: {stop: [a, b, c, d, e]}\noutput:",
            "x.yaml:11: params.stop: holds 5 items; at most 4",
        ),
        ("name: beige_tone", f"name: {'a' * 64}", "x.yaml:1: name: is 64 characters long: the job's name: a letter"),
        ("output:", "budget_usd: '5'\noutput:", "x.yaml:11: budget_usd: must be a number, got '5'"),
        (
            "beige_book.parquet",
            "beige_book.xlsx",
            "x.yaml:3: input.table: 'beige_book.xlsx' is none of the kinds of file",
        ),
        ("name:", "name: x\nname:", "x.yaml:2: the key 'name' stands twice, first on line 1"),
        (
            "output:",
            "params: {max_output_tokens: Auto}\noutput:",
            "x.yaml:11: params.max_output_tokens: 'Auto' is not one of auto; did you mean 'auto'?",
        ),
        (
            "output:",
            "params: {max_output_tokens: 0}\noutput:",
            "x.yaml:11: params.max_output_tokens: must be at least 1, got 0",
        ),
        ("[report_id]", "[report_id", "x.yaml:"),
        (
            "  user: |",
            "  user: {{ text }}\n  u: |",
            "x.yaml:7: a key must be text; a template that begins with {{ needs quotes",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_field_and_value(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in refused(tmp_path, GOOD.replace(old, new, 1))


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        GOOD
        + "budget_usd: 0\nweight: '1'\nretries: {attempts: 0}\nparams: {temperature: 3, max_output_tokens: true}\n",
    )
    assert text.splitlines() == [
        "x.yaml:14: budget_usd: must be greater than 0, got 0",
        "x.yaml:15: weight: must be a number, got '1'",
        "x.yaml:16: retries.attempts: must be at least 1, got 0",
        "x.yaml:17: params.temperature: must be at most 2, got 3",
        "x.yaml:17: params.max_output_tokens: must be a whole number, got true",
    ]


@pytest.mark.parametrize("text", ["", "- a", "word", "# nothing"])
def test_what_is_no_job_at_all_is_told(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text) == "x.yaml: must be a mapping with name, input, prompt, model and output"


def test_a_missing_file_names_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "tone.yaml").write_text(GOOD)
    with pytest.raises(JobFileError, match=r"tone.yml: there is no such job file; did you mean '.*tone.yaml'\?"):
        load_job(tmp_path / "tone.yml")
    with pytest.raises(JobFileError, match="there is no folder"):
        load_job(tmp_path / "gone" / "tone.yaml")


def test_what_has_not_landed_is_refused_with_its_line(tmp_path: Path) -> None:
    text = refused(tmp_path, GOOD + "lane: flex\ndeadline: 24h\n", NotYetAvailable)
    assert text.splitlines() == [
        "x.yaml:14: lane: the flex lane is not yet available; remove the key",
        "x.yaml:15: deadline: deadlines are not yet available; remove the key",
    ]


def test_a_fallback_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    text = refused(tmp_path, GOOD + "fallback:\n  - azure/x\n  - openai/y\n  - azure/x\n")
    assert text == "x.yaml:17: fallback[2]: 'azure/x' is named twice"


def test_missing_columns_are_refused_with_their_line(tmp_path: Path) -> None:
    declared = load(tmp_path, GOOD)
    declared.check_columns(["report_id", "text", "more"])
    with pytest.raises(InputError) as caught:
        declared.check_columns(["report", "txt"])
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert lines == [
        "x.yaml:4: input.key[0]: the input has no key column 'report_id'; did you mean 'report'?",
        "x.yaml:5: prompt: the input has no column of the prompt 'text'; did you mean 'txt'?",
        "columns of the input: report, txt",
    ]


def test_an_unknown_provider_or_model_is_told_with_the_line_of_model(tmp_path: Path) -> None:
    providers = load_providers(None)
    assert load(tmp_path, GOOD).pools(providers)[0].kind == "openai"
    with pytest.raises(
        JobFileError, match=r"x.yaml:10: model: there is no provider 'opnai' .* did you mean 'openai'\?"
    ):
        load(tmp_path, GOOD.replace("openai/", "opnai/")).pools(providers)


# ---- Python


def test_python_and_yaml_give_the_same_job_and_the_same_errors(tmp_path: Path) -> None:
    for text in (GOOD, FULL):
        data = parse_yaml(text, "x").data
        from_file, from_dict, from_job = (
            load(tmp_path, text),
            declare(data, tmp_path),
            declare(Job(**data), str(tmp_path)),
        )
        assert from_file.job == from_dict.job == from_job.job
        assert from_file.user_template == from_dict.user_template == from_job.user_template
        assert from_job.directory == tmp_path
    bad = GOOD.replace("[report_id]", "[report_id, report_id]").replace("number", "nmber") + "output_: 1\n"
    for change in ("", "output_: 1\n"):
        text = bad.replace("output_: 1\n", change)
        in_file = [line.split(": ", 1)[1] for line in refused(tmp_path, text).splitlines()]
        with pytest.raises(JobFileError) as caught:
            declare(parse_yaml(text, "x").data, tmp_path)
        in_python = [line.removeprefix("job beige_tone: ") for line in str(caught.value).splitlines()]
        assert sorted(in_python) == sorted(in_file)


def test_a_job_object_is_checked_like_a_dict(tmp_path: Path) -> None:
    job = Job(**{**parse_yaml(GOOD, "x").data, "lane": "batch"})
    with pytest.raises(NotYetAvailable, match="job beige_tone: lane: the batch lane is not yet available"):
        declare(job, tmp_path)


@pytest.mark.parametrize("data", [None, [], "name", 3])
def test_what_is_no_dict_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(JobFileError, match="job: must be a mapping"):
        declare(data, tmp_path)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
columns = st.lists(words, min_size=1, max_size=3)
jobs = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[a-z][a-z0-9_]{0,62}", fullmatch=True),
        "input": st.fixed_dictionaries({"table": words, "key": columns}, optional={"where": words}),
        "prompt": st.fixed_dictionaries({"user": words}, optional={"system": words}),
        "model": st.from_regex(r"[a-z]+/[A-Za-z0-9./:-]+", fullmatch=True),
        "output": st.fixed_dictionaries(
            {"table": words},
            optional={
                "schema": st.dictionaries(
                    words, st.none() | words | st.lists(words) | st.integers() | st.booleans(), max_size=3
                ),
                "mode": st.sampled_from(["upsert", "replace", "append_missing"]),
                "keep": columns,
            },
        ),
    },
    optional={
        "params": st.fixed_dictionaries(
            {},
            optional={
                "temperature": st.floats(0, 2),
                "stop": st.lists(words, min_size=1, max_size=4),
                "seed": st.integers(),
            },
        ),
        "budget_usd": st.decimals("0.000001", "1000000", places=6),
        "user": words,
        "weight": st.floats(1e-6, 1e6),
        "slices": st.sampled_from([{"rows": 5}, {"target_minutes": 2.5}, {}]),
        "retries": st.fixed_dictionaries({}, optional={"attempts": st.integers(1, 20), "re_asks": st.integers(0, 10)}),
        "schedule": st.sampled_from(
            [{"cron": "0 6 * * *"}, {"cadence": "weekly", "column": "x", "start": "2026-01-01"}]
        ),
        "notify": st.just(["${env:X}"]),
        "freshness": st.sampled_from(["24h", "1d"]),
        "cache": st.sampled_from(["user", "off"]),
        "images": columns,
    },
)


@given(jobs)
def test_any_job_is_written_as_yaml_that_reads_back_equal(data: dict[str, Any]) -> None:
    job = Job.model_validate(data)
    assert Job.model_validate(parse_yaml(dump_job(job), "x").data) == job
    assert Job.model_validate(job.model_dump(mode="json", by_alias=True)) == job


def test_job_data_is_declared_again_equal_and_holds_no_secret(tmp_path: Path) -> None:
    declared = load(tmp_path, FULL)
    data = declared.job_data()
    assert data["notify"] == ["${env:TEAM_SLACK_URL}"]
    assert declare(data, tmp_path).job == declared.job


# ---- the reference page


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, spec in model.model_fields.items():
        inner = [part for part in (spec.annotation, *get_args(spec.annotation)) if isinstance(part, type)]
        parts = [part for part in inner if issubclass(part, BaseModel)]
        if parts:
            yield from keys(parts[0], f"{prefix}{spec.alias or name}.")
        else:
            yield f"{prefix}{spec.alias or name}"


def test_the_reference_page_names_every_key_and_its_example_loads(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "reference" / "job-file.md").read_text(encoding="utf-8")
    later = {"kind", "lane", "deadline"}
    missing = [key for key in keys(Job) if f"`{key}`" not in page and key not in later]
    assert missing == []
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    job = next(block for block in blocks if block.startswith("name:"))
    shape = next(block for block in blocks if block.startswith("schema:"))
    assert load(tmp_path, job).job.name == "tone"
    assert AnswerSchema.from_declared(parse_yaml(shape, "page").data["schema"]).columns[0] == "tone"
