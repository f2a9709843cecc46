"""What a plan says of an embedding job: calls for many rows, no output tokens, no answer that could be too long."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
import yaml

from batch_llm import wiring
from batch_llm.engine.planning import Plan
from batch_llm.engine.starting import signatures
from batch_llm.errors import JobFileError
from batch_llm.job.load import DeclaredJob
from tests.integration.engine_lab import write_input
from tests.integration.lab import Lab


def vectors(lab: Lab, **changes: Any) -> DeclaredJob:
    """An embedding job over the lab's table."""
    data: dict[str, Any] = {"prompt": {"user": "{{ text }}"}, "params": {"dimensions": 8}, "output": {"table": "out"}}
    return lab.job(kind="embedding", **{**data, **changes})


def openai_without_a_key(lab: Lab) -> None:
    """A providers file that can be planned with and not called."""
    pool = {"name": "main", "models": ["*"], "limits": "unknown"}
    spec = {"kind": "openai", "api_key": "${env:ABSENT}", "pools": [pool]}
    (lab.folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"openai": spec}}))


def planned(lab: Lab, limits: dict[str, float], **changes: Any) -> Plan:
    lab.providers("http://127.0.0.1:1/v1", limits)
    return wiring.planner(lab.settings, vectors(lab, **changes)).plan()


def test_tokens_cost_and_time_are_those_of_the_texts_alone(lab: Lab) -> None:
    lab.table(6_000, text="x" * 40 + "{:04}")  # 44 bytes: 11 tokens at four bytes each
    plan = planned(lab, {"requests_per_minute": 600, "tokens_per_minute": 660_000})
    assert (plan.input_tokens_p50, plan.input_tokens_total, plan.output_tokens_total) == (11, 66_000, 0)
    assert plan.cost_expected_usd == Decimal("0.066")
    assert plan.cost_low_usd is not None and plan.cost_high_usd is not None
    assert plan.cost_low_usd <= Decimal("0.066") <= plan.cost_high_usd  # no encoding of the model is known
    assert (plan.binding, plan.minutes) == ("tokens_per_minute", pytest.approx(0.1))
    assert plan.warnings == []


def test_a_call_counts_as_one_request_however_many_rows_it_asks(lab: Lab) -> None:
    """6,000 rows of 11 tokens: six calls of a second's tokens each, not 6,000."""
    lab.table(6_000, text="x" * 40 + "{:04}")
    plan = planned(lab, {"requests_per_minute": 6, "tokens_per_minute": 660_000})
    assert plan.minutes == pytest.approx(max(3 / 6, 66_000 / 660_000))
    assert plan.binding == "requests_per_minute"


def test_a_price_without_output_is_a_price(lab: Lab) -> None:
    """The list's price of a model of vectors; nothing is called and no key is needed."""
    lab.table(100, text="x" * 40)
    openai_without_a_key(lab)
    job = vectors(lab, model="openai/text-embedding-3-small", params={})
    plan = wiring.planner(lab.settings, job).plan()
    assert plan.cost_expected_usd == Decimal("0.02") * plan.input_tokens_total / 1_000_000
    assert plan.counted != "estimated"
    assert job.answer.arrow_fields[0].type.list_size == 1536


def test_the_simulator_bills_by_bytes_whatever_its_model_is_called(lab: Lab) -> None:
    """So nothing is counted with the encoding of the real model, and the range holds what is billed."""
    lab.table(20, text="числа и слова {:04}")
    plan = planned(lab, {"requests_per_minute": 600}, model="simulator/text-embedding-3-small")
    billed = 20 * math.ceil(len("числа и слова 0000".encode()) / 4)
    assert plan.counted == "estimated"
    assert plan.input_tokens_low <= billed <= plan.input_tokens_high


def test_an_empty_text_is_told_before_it_is_asked(lab: Lab) -> None:
    write_input(lab, id=[1, 2, 3], text=["a", "", None], extra=[1, 2, 3])
    plan = planned(lab, {"requests_per_minute": 60})
    assert plan.warnings == ["2 rows cannot be rendered and will fail without a call"]


def test_a_slice_holds_no_more_vectors_than_fit_into_memory(lab: Lab) -> None:
    lab.table(9_000)
    plan = planned(lab, {"requests_per_minute": 60_000}, params={"dimensions": 4_096})
    assert plan.slices == 3  # 4,096 vectors of 16 kB are 64 MiB


def test_vectors_of_an_unknown_size_are_refused(lab: Lab) -> None:
    with pytest.raises(JobFileError, match=r"model: the size of the vectors of 'simulator/small' is not known"):
        vectors(lab, params={})


def test_a_run_is_another_one_than_a_chats(lab: Lab) -> None:
    """Even where model and text are the same."""
    openai_without_a_key(lab)
    same: dict[str, Any] = {"model": "openai/text-embedding-3-small", "params": {}}
    chat = lab.job(prompt={"user": "{{ text }}"}, output={"table": "out"}, **same)
    said = [signatures(wiring.planner(lab.settings, job).parts)[0] for job in (vectors(lab, **same), chat)]
    assert said[0] != said[1]
