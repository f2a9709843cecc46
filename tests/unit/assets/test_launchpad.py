"""The Launchpad offers what the job model knows."""

from typing import Any

import dagster as dg
import pytest
from pydantic import BaseModel, Field

from assets.launchpad import config_fields
from batch_llm.job.load import declare
from batch_llm.job.model import Job

MINIMAL: dict[str, Any] = {
    "name": "tone",
    "input": {"table": "reports.csv", "key": ["id"]},
    "prompt": {"user": "{{ text }}"},
    "model": "simulator/small",
    "output": {"table": "tone_out"},
}


def received(config: dict[str, Any]) -> dict[str, Any]:
    """What an op gets of a run config."""
    seen: dict[str, Any] = {}

    @dg.op(config_schema=config_fields(Job))
    def take(context: dg.OpExecutionContext) -> None:
        seen.update(context.op_config)

    with dg.DagsterInstance.ephemeral() as instance:
        dg.GraphDefinition("one", node_defs=[take]).to_job().execute_in_process(
            run_config={"ops": {"take": {"config": config}}}, instance=instance
        )
    return seen


def test_every_key_of_the_job_file_is_offered_with_an_explanation() -> None:
    fields = config_fields(Job)
    assert set(fields) == {info.alias or name for name, info in Job.model_fields.items()}
    assert [name for name, field in fields.items() if not field.description] == []
    assert {name for name, field in fields.items() if field.is_required} == set(MINIMAL)


@pytest.mark.parametrize("cap", [64, "auto", None])
def test_a_value_that_may_be_a_number_or_a_word_comes_through_as_either(cap: int | str | None) -> None:
    given = MINIMAL | {"params": {"max_output_tokens": cap}}
    assert declare(received(given), "/").job.params.max_output_tokens == cap


def test_only_what_was_written_reaches_the_model() -> None:
    assert received(MINIMAL) == MINIMAL


def test_every_kind_of_value_comes_through() -> None:
    full = MINIMAL | {
        "output": {"table": "o", "schema": {"tone": {"enum": ["a", "b"]}, "score": "number"}, "mode": "replace"},
        "budget_usd": 2.5,
        "params": {"temperature": 0, "stop": ["END"], "reasoning_effort": "low"},
        "checks": {"max_failed_share": 0.02, "block_promotion": True},
        "priority": "high",
        "schedule": None,
    }
    assert declare(received(full), "/").job == declare(full, "/").job


@pytest.mark.parametrize("changes", [{"modle": "x"}, {"priority": "urgent"}, {"input": {"table": "t"}}])
def test_what_the_model_would_refuse_is_marked_before_launching(changes: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        received(MINIMAL | changes)


def test_a_type_without_counterpart_is_an_error_of_ours() -> None:
    class Odd(BaseModel):
        when: complex = Field(default=0j)

    with pytest.raises(TypeError, match="Odd_when"):
        config_fields(Odd)
