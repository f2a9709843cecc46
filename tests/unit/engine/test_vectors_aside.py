"""Vectors in a file without a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_llm.engine.vectors_aside import VectorsAside


def test_they_come_back_as_they_were_and_leave_nothing(tmp_path: Path) -> None:
    aside = VectorsAside(tmp_path / "a" / "b")
    assert aside.get(1) is None
    aside.add({1: b"one_", 7: b"sevenmore"})
    aside.add({2: b"two_"})
    assert [aside.get(row) for row in (1, 2, 3, 7)] == [b"one_", b"two_", None, b"sevenmore"]
    assert [*(tmp_path / "a" / "b").iterdir()] == []
    aside.close()
    assert aside.get(1) is None
    aside.add({1: b"anew"})
    assert aside.get(1) == b"anew"
    aside.close()


@pytest.mark.parametrize("written", [0, 3])
def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    aside = VectorsAside(tmp_path)
    aside.add({1: b"one_"})

    def full(*_: object) -> int:
        if written:
            return written
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        aside.add({2: b"two_"})
    assert (aside.get(1), aside.get(2)) == (b"one_", None)
    aside.add({3: b"thre"})
    assert (aside.get(1), aside.get(3)) == (b"one_", b"thre")
    aside.close()


def test_a_folder_that_cannot_be_made_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    aside = VectorsAside(tmp_path / "file" / "folder")
    aside.add({1: b"one_"})
    assert aside.get(1) is None
