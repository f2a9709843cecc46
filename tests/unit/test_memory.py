"""One heap for all threads of a process of ours."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAYS_POOL = "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
IN_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{SAYS_POOL}'], check=True)"


@pytest.mark.parametrize(
    "steps",
    [
        f"from batch_llm.memory import one_heap; one_heap(); {SAYS_POOL}",
        f"import pyarrow; from batch_llm.memory import one_heap; one_heap(); {SAYS_POOL}",
        f"from batch_llm.memory import one_heap; one_heap(); {IN_A_CHILD}",
    ],
    ids=["before Arrow", "after Arrow", "in children"],
)
def test_arrow_takes_the_heap_of_the_process(steps: str) -> None:
    assert said(steps) == "system"


def test_what_the_environment_says_is_respected() -> None:
    steps = f"from batch_llm.memory import one_heap; one_heap(); {SAYS_POOL}"
    assert said(steps, ARROW_DEFAULT_MEMORY_POOL="mimalloc") == "mimalloc"


def said(steps: str, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    done = subprocess.run(
        [sys.executable, "-c", steps], env=variables | environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
