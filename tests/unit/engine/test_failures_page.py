"""The page of failures says what the table says."""

from __future__ import annotations

from pathlib import Path

from batch_llm.engine.failures_page import failures_page
from batch_llm.errors import ErrorClass

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "failures.md"


def test_the_page_in_the_docs_is_made_of_the_table() -> None:
    anew = ".venv/bin/python -m batch_llm.engine.failures_page > docs/reference/failures.md"
    assert PAGE.read_text(encoding="utf-8") == failures_page(), f"write it anew: {anew}"


def test_every_class_stands_in_both_tables() -> None:
    lines = failures_page().splitlines()
    for name in ErrorClass:
        assert sum(line.startswith(f"| `{name.value}` |") for line in lines) == 2
