"""Where the frozen slices of a run lie on this machine: ``<runs_dir>/<run_id>/frozen/0000.parquet``, ...

Belongs here: these places, which every warehouse shares. Not here: what makes the files (each warehouse's freezing.py).
"""

from __future__ import annotations

from pathlib import Path

from batch_llm.warehouse.refs import check_run_id

__all__ = ["PARTIAL", "frozen_folder", "slice_path"]

PARTIAL = "frozen-partial-"
"""Begins the name of a folder beside the slices where they are made; forgotten with them after a kill."""


def frozen_folder(runs_dir: Path, run_id: str) -> Path:
    """Where a run's frozen slices are. Raises `WarehouseError` for what is no run id: no path leads elsewhere."""
    return runs_dir / check_run_id(run_id) / "frozen"


def slice_path(runs_dir: Path, run_id: str, number: int) -> Path:
    """One slice's file."""
    return frozen_folder(runs_dir, run_id) / f"{number:04}.parquet"
