"""JSON lines as they are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch_llm.errors import InputError
from batch_llm.warehouse.duckdb import DuckDBWarehouse
from batch_llm.warehouse.duckdb.jsonl_text import _CHUNK_BYTES, first_odd_line, with_line_feeds

GOOD = b'{"id":1,"text":"a","x":NaN}\n'


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "home" / "warehouse.duckdb", tmp_path / "home" / "runs")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"id":1,"text":"\\ud800"}\n' + GOOD, "line 1 .*half of a character"),
        (GOOD + b'{"id":2,"te', "line 2 .*Unterminated string"),
        (GOOD + b"\n\nnot json\n" + GOOD, "line 4 .*Expecting value"),
        (GOOD + b'{"id":2} {"id":3}\n', r"line 2 .*Extra data \(at its character 10\)"),
        (b'{\n "id": 1\n}\n', "line 1 is no whole JSON object"),
        (GOOD + '{"id":1,"text":"é"}\n'.encode("latin1"), r"line 2 .*not UTF-8 text \(at its byte 17\)"),
        (GOOD.replace(b"\n", b"\r") + b"{", "line 2 "),
    ],
)
def test_the_line_that_is_wrong_is_named(warehouse: DuckDBWarehouse, tmp_path: Path, content: bytes, told: str) -> None:
    """Without the advice of a reader that nobody here can follow."""
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.jsonl cannot be read as JSON lines: {told}") as caught:
        warehouse.head(str(tmp_path / "a.jsonl"), [], None, 10)
    assert "auto-detect" not in str(caught.value)


@pytest.mark.parametrize("newline", [b"\r", b"\r\n", b"\n"])
def test_lines_may_end_as_they_like(warehouse: DuckDBWarehouse, tmp_path: Path, newline: bytes) -> None:
    lines = [json.dumps({"id": number, "text": "a\r\nb"}).encode() for number in range(3)]
    (tmp_path / "a.jsonl").write_bytes(newline.join(lines))
    found = warehouse.head(str(tmp_path / "a.jsonl"), [], None, 10).to_pylist()
    assert found == [{"id": number, "text": "a\r\nb"} for number in range(3)]


def test_a_newline_may_lie_across_two_chunks(tmp_path: Path) -> None:
    path, copy = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b" " * (_CHUNK_BYTES - 1) + b"\r\n\r{}")
    assert with_line_feeds(path, copy)
    assert copy.read_bytes().lstrip(b" ") == b"\n\n{}"
    assert not with_line_feeds(copy, path)
    assert first_odd_line(path) == ""
