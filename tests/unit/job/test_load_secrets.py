"""No error about a job file shows a secret, wherever somebody put it."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from batch_llm.config.yaml_source import parse_yaml
from batch_llm.errors import ConfigurationError, SecretError
from batch_llm.job.model import Job
from tests.unit.job.job_file_lab import GOOD, load, refused

LEAVES = [
    "QQ",
    "QQ: 1",
    "name: QQ-",
    "input: QQ",
    "input: {table: 'gs://QQ@bucket/x.parquet', key: [a]}",
    "input: {table: QQ.xlsx, key: [a, a]}",
    "input: {key: QQ}",
    "prompt: {user_file: QQ}",
    "prompt: {usr: QQ}",
    "model: QQ",
    "params: {temperature: QQ}",
    "params: {QQ: 1}",
    "output: {table: 'QQ .csv'}",
    "output: {table: t, mode: QQ}",
    "output: {table: t, schema: QQ}",
    "output: {table: t, schema: {QQ: string}}",
    "output: {table: t, schema: {a: QQ}}",
    "output: {table: t, schema: {a: {QQ: 1}}}",
    "output: {table: t, schema: {a: {type: string, enum: [QQ, QQ]}}}",
    "output: {table: t, schema: {a: {type: number, enum: [QQ]}}}",
    "output: {table: t, schema: {a: {type: string, pattern: '(QQ'}}}",
    "output: {table: t, keep: [QQ, QQ]}",
    "budget_usd: QQ",
    "priority: QQ",
    "notify: QQ",
    "notify: [QQ]",
    "notify: ['slack://QQ']",
    "notify: ['${env:A}QQ']",
    "schedule: {cron: QQ}",
    "schedule: {cron: 'QQ * * * *'}",
    "freshness: QQ",
    "watch: {tables: QQ, on: QQ}",
    "fallback: [QQ]",
    "lane: QQ",
    "notify: 'QQ",
    "notify: QQ: QQ",
    "notify: *QQ",
    "notify: !QQ x",
    "notify: [x]\nnotify: [QQ]",
]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_planted_key_never_appears_in_an_error(tmp_path: Path, leaf: str) -> None:
    planted = "s" + "k-proj-" + secrets.token_hex(4) + secrets.token_urlsafe(20)
    data = parse_yaml(GOOD, "x").data
    rest = "".join(dump for key, value in data.items() if f"{key}:" not in leaf for dump in [f"{key}: {value!r}\n"])
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, rest + leaf.replace("QQ", planted) + "\n")
    assert planted not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or planted not in repr(caught.value.__context__)


def test_a_literal_in_notify_names_field_and_line(tmp_path: Path) -> None:
    text = refused(tmp_path, GOOD + "notify:\n  - ${env:A}\n  - mailto://hello\n", SecretError)
    assert text.startswith("x.yaml:16: notify[1]: must be a reference such as ${env:NAME}")
    assert "hello" not in text


def test_pydantics_own_error_shows_no_value_either() -> None:
    with pytest.raises(ValueError, match="must be a reference") as caught:
        Job(**{**parse_yaml(GOOD, "x").data, "notify": ["mailto://hello"]})
    assert "hello" not in str(caught.value)
