"""The schedule on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch_llm.errors import LimiterError
from batch_llm.limiter.schedule_file import ScheduleFile

TIMES = (1.0, 2.5, float("-inf"), 4.0, 1.8e9)


def test_what_was_saved_last_is_loaded(tmp_path: Path) -> None:
    one = ScheduleFile(tmp_path / "new folder" / "openai main.schedule")
    assert one.load() is None
    one.save((0.0,) * 5)
    one.save(TIMES)
    assert ScheduleFile(one.path).load() == TIMES
    one.close()
    assert one.load() == TIMES


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "other", "empty"])
def test_a_damaged_or_foreign_file_is_ignored(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s"
    one = ScheduleFile(path)
    one.save(TIMES)
    good = path.read_bytes()
    path.write_bytes(
        {
            "cut": good[:-3],
            "flipped": good[:20] + bytes([good[20] ^ 1]) + good[21:],
            "longer": good + b"x",
            "other": b"{}" * 40,
            "empty": b"",
        }[damage]
    )
    loaded = ScheduleFile(path).load()
    assert loaded == (TIMES if damage == "longer" else None)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LimiterError, match=r"cannot open the limiter's schedule .*make the folder writable"):
        ScheduleFile(tmp_path / "file" / "s").load()
