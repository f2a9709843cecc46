"""The demo that ships with the product: a real table, a job and a providers file for the simulator.

Belongs here: the files and where they are. Not here: running them (``cli``).
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["JOB_FILE", "PROVIDERS_FILE", "TABLE_FILE"]

_FOLDER = Path(__file__).parent

JOB_FILE = _FOLDER / "job.yaml"
PROVIDERS_FILE = _FOLDER / "providers.yaml"
TABLE_FILE = _FOLDER / "places.csv"
