"""Files that cannot be removed, for tests that may run as a user who can remove everything.

Belongs here: what tests of erasing share. Not here: assertions.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

__all__ = ["unremovable"]


def unremovable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Files of this name stay, as in a folder that another user owns."""
    unlink = os.unlink

    def refused(path: str, **options: int) -> None:
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refused)
