"""A job file that is right, and what becomes of one that is not.

Belongs here: what the tests of reading job files share. Not here: promises.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import ConfigurationError, JobFileError
from batch_llm.job.load import DeclaredJob, load_job

__all__ = ["GOOD", "load", "refused"]

GOOD = """\
name: beige_tone
input:
  table: beige_book.parquet
  key: [report_id]
prompt:
  system: You grade.
  user: |
    Grade this report:
    {{ text }}
model: openai/gpt-4.1-mini
output:
  table: beige_tone
  schema: {tone: {enum: [hawkish, neutral, dovish]}, confidence: number}
"""


def load(folder: Path, text: str, name: str = "x.yaml") -> DeclaredJob:
    """Write a job file and read it."""
    (folder / name).write_text(text, encoding="utf-8")
    return load_job(folder / name)


def refused(folder: Path, text: str, kind: type[ConfigurationError] = JobFileError) -> str:
    """What is said of a file that cannot be read."""
    with pytest.raises(kind) as caught:
        load(folder, text)
    assert type(caught.value) is kind
    return str(caught.value).replace(f"{folder}/", "")
