"""Pydantic's findings in the words of somebody who wrote the file."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from batch_llm.config.problems import did_you_mean, error_for, explain, nearest
from batch_llm.config.secrets import SecretReference
from batch_llm.config.yaml_source import Problem
from batch_llm.errors import JobFileError, SecretError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["upsert", "replace"] = "upsert"
    keep: list[Annotated[str, Field(min_length=1)]] = []


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(pattern="^[a-z]+$", description="a word of small letters")
    inner: Inner | None = None
    many: dict[str, list[Inner]] = {}
    budget: Decimal | None = Field(default=None, gt=0, strict=False)
    rate: float = Field(default=1, ge=0, le=2)
    flag: bool = False
    key: SecretReference | None = None


def found(**data: object) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"name": "x", **data})
    return {problem.path: problem.reason for problem in explain(caught.value, Outer)}


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        (
            {"inner": {"mode": "upsrt"}},
            ("inner", "mode"),
            "'upsrt' is not one of upsert, replace; did you mean 'upsert'?",
        ),
        ({"inner": {"mode": 3}}, ("inner", "mode"), "3 is not one of upsert, replace"),
        ({"inner": {"moed": "x"}}, ("inner", "moed"), "unknown key 'moed'; did you mean 'mode'?"),
        ({"many": {"a": [{"kep": 1}]}}, ("many", "a", 0, "kep"), "unknown key 'kep'; did you mean 'keep'?"),
        ({"keep": []}, ("keep",), "unknown key 'keep'; did you mean 'inner.keep'?"),
        ({"inner": {"zzzz": 1}}, ("inner", "zzzz"), "unknown key 'zzzz' (valid here: keep, mode)"),
        ({"name": "X"}, ("name",), "'X' does not fit: a word of small letters"),
        ({"name": None}, ("name",), "must be text, got nothing"),
        ({"rate": "1"}, ("rate",), "must be a number, got '1'"),
        ({"rate": True}, ("rate",), "must be a number, got true"),
        ({"rate": 3}, ("rate",), "must be at most 2, got 3"),
        ({"rate": -1}, ("rate",), "must be at least 0, got -1"),
        ({"budget": 0}, ("budget",), "must be greater than 0, got 0"),
        ({"budget": "ten"}, ("budget",), "must be a number, got 'ten'"),
        ({"flag": "yes"}, ("flag",), "must be true or false, got 'yes'"),
        ({"inner": {"keep": "a"}}, ("inner", "keep"), "must be a list, got 'a'"),
        ({"inner": {"keep": [""]}}, ("inner", "keep", 0), "must not be empty"),
        ({"inner": [1]}, ("inner",), "must be a mapping (key: value), got a list"),
    ],
)
def test_each_finding_names_value_and_what_is_valid(
    data: dict[str, object], path: tuple[str, ...], reason: str
) -> None:
    assert found(**data) == {path: reason}


def test_a_missing_field_says_what_it_means() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({})
    assert explain(caught.value, Outer) == [Problem(("name",), "is required: a word of small letters")]


def test_a_literal_secret_makes_a_secret_error_and_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"name": "X", "key": "open sesame"})
    problems = explain(caught.value, Outer)
    assert error_for(problems, JobFileError) is SecretError
    assert not any("sesame" in problem.reason for problem in problems)
    assert error_for([problem for problem in problems if not problem.literal_secret], JobFileError) is JobFileError


def test_the_nearest_name_ignores_upper_case_and_may_be_none() -> None:
    assert nearest("OpenAI", ["openai", "simulator"]) == "openai"
    assert nearest("zzz", ["openai"]) is None
    assert did_you_mean("opnai", ["openai"]) == "; did you mean 'openai'?"
    assert did_you_mean("zzz", ["openai"]) == ""
