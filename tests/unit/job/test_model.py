"""The job model: the rules of single fields, the same from Python as from YAML."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from batch_llm.job.model import Job, job_json_schema

MINIMAL: dict[str, Any] = {
    "name": "tone",
    "input": {"table": "reports.parquet", "key": ["id"]},
    "prompt": {"user": "Grade {{ text }}"},
    "model": "simulator/small",
    "output": {"table": "tone"},
}


def test_the_smallest_job_has_the_documented_defaults() -> None:
    job = Job.model_validate(MINIMAL)
    assert (job.output.mode, job.output.answer_schema, job.output.keep) == ("upsert", None, [])
    assert (job.budget_usd, job.user, job.priority, job.weight) == (None, "default", "normal", 1)
    assert (job.retries.attempts, job.retries.re_asks) == (5, 2)
    assert (job.cache, job.samples, job.kind, job.lane) == ("user", "keys", "chat", "auto")
    assert (job.provider_name, job.model_name) == ("simulator", "small")


def test_a_model_name_may_hold_slashes() -> None:
    job = Job.model_validate({**MINIMAL, "model": "local/meta/llama-3"})
    assert (job.provider_name, job.model_name) == ("local", "meta/llama-3")


def test_money_is_exact() -> None:
    for given in (0.1, "0.1", Decimal("0.1")):
        assert Job.model_validate({**MINIMAL, "budget_usd": given}).budget_usd == Decimal("0.1")


@pytest.mark.parametrize(
    ("given", "declared", "learned"), [(None, None, False), (64, 64, False), (1, 1, False), ("auto", None, True)]
)
def test_the_longest_answer_is_a_number_or_learned_only_when_the_job_says_so(
    given: int | str | None, declared: int | None, learned: bool
) -> None:
    params = Job.model_validate({**MINIMAL, "params": {"max_output_tokens": given}}).params
    assert (params.declared_cap, params.learns_cap) == (declared, learned)
    assert Job.model_validate(MINIMAL).params.learns_cap is False


@pytest.mark.parametrize("given", [0, -1, "Auto", "64", "", True, 1.5, 1.0, []])
def test_other_longest_answers_are_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        Job.model_validate({**MINIMAL, "params": {"max_output_tokens": given}})
    assert not jsonschema_rs.Draft202012Validator(job_json_schema()).is_valid(
        {**MINIMAL, "params": {"max_output_tokens": given}}
    ) or isinstance(given, float)  # JSON knows no difference between 1.0 and 1


@pytest.mark.parametrize("cron", ["0 6 * * *", "*/5 0-6,8 1,15 jan-mar mon", "59 23 31 12 7", "0 0 * * SUN"])
def test_a_cron_is_accepted(cron: str) -> None:
    assert Job.model_validate({**MINIMAL, "schedule": {"cron": cron}}).schedule is not None


@pytest.mark.parametrize(
    "cron", ["0 6 * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "x * * * *", "*/0 * * * *", "5-1 * * * *", "@daily"]
)
def test_a_cron_that_is_none_is_refused(cron: str) -> None:
    with pytest.raises(ValidationError, match="cron"):
        Job.model_validate({**MINIMAL, "schedule": {"cron": cron}})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": {}}, "give either `user` or `user_file`"),
        ({"prompt": {"user": "a", "user_file": "b"}}, "give either `user` or `user_file`"),
        ({"slices": {"rows": 5, "target_minutes": 2}}, "give either `target_minutes` or `rows`"),
        ({"schedule": {}}, "give either `cron` or `cadence`"),
        ({"schedule": {"cadence": "daily"}}, "`cadence` needs `column`"),
        ({"schedule": {"cadence": "daily", "column": "day"}}, "`cadence` needs `column`"),
        ({"schedule": {"cron": "0 6 * * *", "column": "day"}}, "`column` and `start` go with `cadence`"),
        ({"schedule": {"cadence": "daily", "column": "day", "start": "1.1.2026"}}, "is no day such as 2026-01-01"),
        ({"schedule": {"cadence": "monthly", "column": "day", "start": "2026-01-05"}}, "months begin on their first"),
        ({"notify": ["slack://x"]}, "must be a reference"),
    ],
)
def test_fields_that_exclude_each_other_are_told(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason.replace(".", r"\.")) as caught:
        Job.model_validate({**MINIMAL, **change})
    assert "slack" not in str(caught.value)


def test_a_job_cannot_be_changed() -> None:
    job = Job.model_validate(MINIMAL)
    with pytest.raises(ValidationError):
        job.name = "other"  # type: ignore[misc]


def test_the_json_schema_fits_the_model_and_describes_every_key() -> None:
    schema = job_json_schema()
    validator = jsonschema_rs.Draft202012Validator(schema)
    validator.validate(MINIMAL)
    validator.validate(Job.model_validate(MINIMAL).model_dump(mode="json", by_alias=True))
    assert not validator.is_valid({**MINIMAL, "outptu": {}})
    assert not validator.is_valid({**MINIMAL, "notify": ["literal"]})
    for part in [schema, *schema["$defs"].values()]:
        assert all("description" in field or "$ref" in field for field in part["properties"].values())
