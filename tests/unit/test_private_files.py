"""Folders and files that hold what users' rows say."""

import os
from pathlib import Path

from batch_llm.private_files import private_folder


def test_folders_that_are_missing_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    """One that is there keeps its mode: it is its owner's choice."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    private_folder(shared / "home" / "runs")
    private_folder(shared / "home" / "runs")
    modes = [each.stat().st_mode & 0o777 for each in (shared, shared / "home", shared / "home" / "runs")]
    assert modes == [0o755, 0o700, 0o700]


def test_a_working_folder_that_is_relative_is_made_too(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        private_folder(Path("a/b"))
    finally:
        os.chdir(here)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
