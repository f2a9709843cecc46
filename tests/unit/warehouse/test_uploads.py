"""Frames as files: the same content is the same file, and files go when nobody names them."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_llm.warehouse import uploads
from batch_llm.warehouse.uploads import drop_uploads, sweep_uploads, upload

TABLE = pa.table({"id": list(range(500)), "text": [f"text {i}" if i % 7 else None for i in range(500)]})


def stream(table: pa.Table, cuts: list[int]) -> pa.RecordBatchReader:
    bounds = [0, *sorted(cuts), table.num_rows]
    batches = [b for i, j in itertools.pairwise(bounds) for b in table.slice(i, j - i).to_batches()]
    return pa.RecordBatchReader.from_batches(table.schema, batches)


@given(st.lists(st.integers(0, TABLE.num_rows), max_size=8))
def test_however_the_stream_is_cut_the_file_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("uploads")
    first = upload(stream(TABLE, []), folder)
    before = first.stat()
    assert upload(stream(TABLE, cuts), folder) == first
    assert (first.stat().st_mtime_ns, first.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert [path.name for path in folder.iterdir()] == [first.name]
    assert pq.read_table(first).equals(TABLE)


def test_other_content_is_another_file(tmp_path: Path) -> None:
    assert upload(stream(TABLE, []), tmp_path) != upload(stream(TABLE.slice(1), []), tmp_path)
    assert upload(stream(TABLE, []), tmp_path) != upload(stream(TABLE.rename_columns(["id", "t"]), []), tmp_path)


def test_a_failing_stream_leaves_nothing(tmp_path: Path) -> None:
    def batches():  # type: ignore[no-untyped-def]
        yield TABLE.to_batches()[0]
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="broke"):
        upload(pa.RecordBatchReader.from_batches(TABLE.schema, batches()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_old_files_that_no_run_names_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Young ones may belong to a run that is just being started."""
    named, unnamed = upload(stream(TABLE, []), tmp_path), upload(stream(TABLE.slice(1), []), tmp_path)
    sweep_uploads(tmp_path, {str(named)})
    assert unnamed.exists()
    later_s = time.time() + 2 * uploads.LEFTOVER_S
    monkeypatch.setattr(uploads.time, "time", lambda: later_s)
    sweep_uploads(tmp_path, {str(named)})
    assert (named.exists(), unnamed.exists()) == (True, False)


def test_what_is_forgotten_goes_at_once_unless_another_run_names_it(tmp_path: Path) -> None:
    mine, shared = upload(stream(TABLE, []), tmp_path), upload(stream(TABLE.slice(1), []), tmp_path)
    outside = tmp_path.parent / "outside.parquet"
    os.link(mine, outside)
    drop_uploads(tmp_path, {str(mine), str(shared), str(outside)}, {str(shared)})
    assert (mine.exists(), shared.exists(), outside.exists()) == (False, True, True)
