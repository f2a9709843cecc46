"""Input tables: every text its own, as long as a case says."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.engine.tables import BYTES_PER_TOKEN, long_and_short, short, sixty_tokens, write


def test_a_table_holds_its_rows_in_order(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "t.parquet", 45_000, short)).to_pydict()
    assert table["id"] == list(range(45_000))
    assert len(set(table["text"])) == 45_000


@pytest.mark.parametrize(("text", "low", "high"), [(sixty_tokens, 58, 58), (long_and_short, 48, 2_998)])
def test_texts_differ_and_are_as_long_as_promised(text: object, low: int, high: int) -> None:
    texts = [text(row) for row in range(500)]  # type: ignore[operator]
    assert len(set(texts)) == 500
    tokens = [len(each) / BYTES_PER_TOKEN for each in texts]
    assert low <= min(tokens) <= max(tokens) <= high
    assert texts == [text(row) for row in range(500)]  # type: ignore[operator]
