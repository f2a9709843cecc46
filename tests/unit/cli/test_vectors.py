"""Vectors where people read."""

import csv
import json
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batch_llm.cli.export import write_rows
from batch_llm.cli.vectors import shortened, vector_in_words

SIZE = 3
ROWS = [[0.1, -2.0, 3e-7], None, [1.0, 2.0, 3.0], [0.0, 0.5, 0.25]]
TABLE = pa.table({"id": [1, 2, 3, 4], "embedding": pa.array(ROWS, pa.list_(pa.float32(), SIZE)), "note": ["a,b"] * 4})


def single(numbers: list[float] | None) -> list[float] | None:
    """The same numbers as 4 bytes hold them."""
    return None if numbers is None else list(struct.unpack(f"<{SIZE}f", struct.pack(f"<{SIZE}f", *numbers)))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".arrow"])
def test_vectors_can_be_exported_as_any_file(tmp_path: Path, suffix: str) -> None:
    """Batches that begin in the middle of a column; a row without a vector."""
    to = tmp_path / f"vectors{suffix}"
    assert write_rows(iter(TABLE.slice(1).to_batches(max_chunksize=2)), to) == 3
    expected = [single(row) for row in ROWS[1:]]
    if suffix == ".parquet":
        assert pq.read_table(to).equals(TABLE.slice(1))
    elif suffix == ".arrow":
        with pa.ipc.open_file(to) as file:
            assert file.read_all().equals(TABLE.slice(1))
    elif suffix == ".csv":
        rows = list(csv.DictReader(to.read_text().splitlines()))
        assert [row["note"] for row in rows] == ["a,b"] * 3
        assert [single(json.loads(row["embedding"])) if row["embedding"] else None for row in rows] == expected
    else:
        rows = [json.loads(line) for line in to.read_text().splitlines()]
        assert list(rows[0]) == ["id", "embedding", "note"]
        assert [single(row["embedding"]) for row in rows] == expected


def test_numbers_are_written_as_short_as_their_4_bytes_allow(tmp_path: Path) -> None:
    write_rows(iter(TABLE.to_batches()), tmp_path / "vectors.jsonl")
    assert (tmp_path / "vectors.jsonl").read_text().startswith('{"id":1,"embedding":[0.1,-2.0,3e-7],"note"')


def test_a_stored_answer_is_shown_without_its_vectors() -> None:
    body = '{"data": [{"index": 0, "embedding": "%s"}, {"index": 1, "embedding":[%s]}], "usage": 1}'
    shown = shortened(body % ("QUJD" * 2048, "0.25," * 1536))
    assert len(shown) < 250
    assert '"embedding": "QUJDQUJDQUJDQUJDQUJDQUJD.. (8,192 characters)"' in shown
    assert '"embedding":[0.25,0.25,0.25,0.25,0.25.. (7,680 characters)]' in shown
    assert shown.endswith('"usage": 1}')


def test_an_answer_with_many_vectors_is_cut_and_says_so() -> None:
    one = '{"index": 0, "embedding": "%s"}' % ("QUJD" * 2048)
    shown = shortened('{"data": [' + ", ".join([one] * 512) + "]}")
    assert len(shown) < 4_200
    assert shown.endswith("characters in all, 512 vectors)")


def test_a_chats_answer_stays_whole() -> None:
    body = '{"choices": [{"message": {"content": "%s"}}], "note": "an embedding is long"}' % ("word " * 2_000)
    assert shortened(body) == body


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([0.123456789, -1.0, 2.0, 3.0, *[0.0] * 60], "[0.123457, -1, 2, 3, ..] (64 numbers)"),
        ([0.5] * 16, [0.5] * 16),
        (["a"] * 40, ["a"] * 40),
        ("text", "text"),
        (None, None),
    ],
)
def test_a_long_vector_is_shown_by_its_beginning(value: object, shown: object) -> None:
    assert vector_in_words(value) == shown
