"""Folders and files that hold what users' rows say."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batch_llm.folders import private_folder, remove_tree


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


def test_many_remove_one_tree_at_once_and_all_find_it_gone(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(300):
        (tree / str(number % 7) / str(number)).mkdir(parents=True)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(remove_tree, [tree] * 6))
    assert not tree.exists()
    remove_tree(tree)


def test_what_stays_is_told(tmp_path: Path) -> None:
    """A link where a folder is meant: what it leads to is not ours to remove."""
    (tmp_path / "theirs" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="symbolic link"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "theirs" / "inner").is_dir()
