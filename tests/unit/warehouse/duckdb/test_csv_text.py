"""CSV as it is found."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.warehouse.duckdb import csv_text
from batch_llm.warehouse.duckdb.csv_text import delimiter, first_odd_line, with_one_newline


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("id,text", ","),
        ("id;text", ";"),
        ("id\ttext", "\t"),
        ("id|text", "|"),
        ("text", ","),
        ('"a,b";c', ";"),
        ("", ","),
    ],
)
def test_the_header_tells_the_delimiter(tmp_path: Path, header: str, expected: str) -> None:
    (tmp_path / "a.csv").write_text(header + "\n1,2;3\n")
    assert delimiter(tmp_path / "a.csv") == expected


cells = st.text(st.sampled_from('ab"\r\n,ü '), max_size=6)
newlines = st.sampled_from(["\r\n", "\n", "\r"])


@given(rows=st.lists(st.tuples(st.tuples(cells, cells), newlines), min_size=1, max_size=8), chunk=st.integers(1, 7))
def test_newlines_between_rows_become_one_kind_and_those_in_quotes_stay(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[tuple[str, str], str]], chunk: int
) -> None:
    """Wherever the chunks of the copy end."""
    folder = tmp_path_factory.mktemp("csv")
    text = io.StringIO()
    for row, newline in rows:
        csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL).writerow(row)
    (folder / "in.csv").write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "_CHUNK_BYTES", chunk)
        with_one_newline(folder / "in.csv", folder / "out.csv")
    with (folder / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [row for row, _ in rows]
    ended = (folder / "out.csv").read_bytes()
    assert ended.endswith(b'"\n')
    assert not ended.endswith(b"\r\n")


def test_the_first_odd_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeffid,text\n1,"a\nb"\n2,b,c\n')
    assert first_odd_line(path) == "line 4 has 3 columns, the header has 2"
    path.write_text('id,text\n1,"a\n')
    assert first_odd_line(path).startswith("line 2: ")
    path.write_text("id,text\n1,a\n\n")
    assert first_odd_line(path) == ""
