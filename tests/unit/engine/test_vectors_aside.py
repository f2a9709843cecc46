"""Vectors of stored calls in a file without a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_llm.engine.vectors_aside import VectorsAside

A, B, C = "00" * 15 + "01", "01" + "00" * 15, "0001" + "00" * 14  # each stands within two others, side by side


def test_they_come_back_as_they_were_and_leave_nothing(tmp_path: Path) -> None:
    aside = VectorsAside(tmp_path / "a" / "b")
    assert aside.get(1, A) is None
    aside.add(1, [A, B], [b"one_", b"two_"])
    aside.add(2, [B, A], [b"three", b"four_"])
    assert [aside.get(1, each) for each in (A, B, C)] == [b"one_", b"two_", None]
    assert [aside.get(2, each) for each in (A, B, C)] == [b"four_", b"three", None]
    assert aside.get(3, A) is None
    assert [*(tmp_path / "a" / "b").iterdir()] == []
    aside.close()
    assert aside.get(1, A) is None
    aside.add(1, [C], [b"late"])
    assert aside.get(1, C) is None


def test_it_begins_anew_before_it_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = VectorsAside(tmp_path)
    aside.add(0, [A], [b"vec0"])
    monkeypatch.setattr(aside, "_most", 10)
    for call in range(5):
        aside.add(call, [A], [b"vec%d" % call])
        assert aside.get(call, A) == b"vec%d" % call
    assert [aside.get(call, A) for call in range(5)] == [None, None, None, b"vec3", b"vec4"]
    aside.close()


@pytest.mark.parametrize("written", [0, 3])
def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    aside = VectorsAside(tmp_path)
    aside.add(1, [A], [b"one_"])

    def full(*_: object) -> int:
        if written:
            return written
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        aside.add(2, [A], [b"two_"])
    assert (aside.get(1, A), aside.get(2, A)) == (b"one_", None)
    aside.add(3, [A], [b"thre"])
    assert (aside.get(1, A), aside.get(3, A)) == (b"one_", b"thre")
    aside.close()


def test_a_folder_that_cannot_be_made_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    aside = VectorsAside(tmp_path / "file" / "folder")
    aside.add(1, [A], [b"one_"])
    assert aside.get(1, A) is None
