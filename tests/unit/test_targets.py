"""What a model of `fallback` cannot do is refused before anything is spent, with its line, model and parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_llm.config.settings import Settings
from batch_llm.errors import JobFileError
from batch_llm.job.load import load_job
from batch_llm.targets import job_targets

KEY = "${env:SOME_KEY}"
PROVIDERS = {
    "openai": {"kind": "openai", "api_key": KEY, "pools": [{"models": ["gpt-4.1-mini"], "limits": "unknown"}]},
    "anthropic": {"kind": "anthropic", "api_key": KEY, "pools": [{"models": ["claude"], "limits": "unknown"}]},
    "local": {
        "kind": "openai_compatible",
        "base_url": "http://127.0.0.1/v1",
        "api_key": KEY,
        "pools": [{"name": n, "models": ["small"], "limits": "unknown", "base_url": f"http://{n}/v1"} for n in "ab"],
    },
}
JOB: dict[str, Any] = {
    "name": "lab",
    "input": {"table": "input.parquet", "key": ["id"]},
    "prompt": {"user": "{{ text }}"},
    "model": "openai/gpt-4.1-mini",
    "params": {"max_output_tokens": 64},
    "output": {"table": "out"},
}


def asked_at(folder: Path, **changes: Any) -> list[str]:
    """The pools of the job's own model."""
    for pools in (spec["pools"] for spec in PROVIDERS.values()):
        for pool in pools:  # type: ignore[attr-defined]
            pool.setdefault("name", "main")
    (folder / "providers.yaml").write_text(yaml.safe_dump({"providers": PROVIDERS}))
    (folder / "x.yaml").write_text(yaml.safe_dump({**JOB, **changes}, sort_keys=False))
    settings = Settings(home=folder, providers_path=folder / "providers.yaml", cwd=folder)
    return [target.pool.name for target in job_targets(settings, load_job(folder / "x.yaml"))]


def test_a_fallbacks_pools_are_not_those_of_the_job(tmp_path: Path) -> None:
    assert asked_at(tmp_path, fallback=["local/small", "anthropic/claude"]) == ["main"]
    assert asked_at(tmp_path, model="local/small", fallback=["openai/gpt-4.1-mini"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fallback": ["local/small", "azur/x"]}, "fallback[1]: there is no provider 'azur'"),
        ({"fallback": ["local/large"]}, "fallback[0]: no pool of provider 'local' has the model 'large'"),
        (
            {"fallback": ["anthropic/claude"], "params": {"max_output_tokens": 64, "seed": 1}},
            (
                "fallback[0]: 'anthropic/claude' cannot answer for this job: params.seed: provider 'anthropic' (kind "
                "anthropic) cannot do this: its API has no such parameter; remove it"
            ),
        ),
        (
            {"fallback": ["anthropic/claude"], "params": {"max_output_tokens": 64, "temperature": 1.5}},
            (
                "fallback[0]: 'anthropic/claude' cannot answer for this job: params.temperature: provider 'anthropic' "
                "(kind anthropic) takes at most 1, got 1.5"
            ),
        ),
        (
            {"fallback": ["anthropic/claude"], "params": {}},
            (
                "'anthropic/claude' cannot answer for this job: params.max_output_tokens: provider 'anthropic' (kind "
                "anthropic) wants it with every request; give it"
            ),
        ),
    ],
)
def test_what_a_fallback_cannot_do_is_told_with_its_line(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(JobFileError) as refused:
        asked_at(tmp_path, **changes)
    line = next(line for line in str(refused.value).splitlines() if "fallback" in line)
    lines = (tmp_path / "x.yaml").read_text().splitlines()
    number = int(line.partition("x.yaml:")[2].split(":")[0])
    assert told in line and lines[number - 1].startswith("- ")
