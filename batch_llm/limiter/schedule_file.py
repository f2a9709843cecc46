"""The schedule on disk, so that the next process of a home goes on where a killed one stopped.

Belongs here: the file's format, its checks. Not here: what the times mean (rate_clock.py). Only one process uses a
home's schedule at a time (the home's lock), so there is no locking here. The file holds no history: it is overwritten
in place with one small write, which a crash either did or did not do; a half-written or foreign file is ignored.
"""

from __future__ import annotations

import os
import struct
import weakref
import zlib
from pathlib import Path

from batch_llm.errors import LimiterError

__all__ = ["ScheduleFile"]

MAGIC = b"BLLM-TAT"
TIMES = 5  # one per dimension, and the end of the pause: seconds since 1970
_BODY = struct.Struct(f"<8s{TIMES}d")
_CHECK = struct.Struct("<I")


class ScheduleFile:
    """A handful of wall-clock times. Opened at the first use, closed by `close` or with the object."""

    def __init__(self, path: Path) -> None:
        """``path``: need not exist; its folder is made."""
        self.path = path
        self._descriptor: int | None = None
        self._close: weakref.finalize[..., ScheduleFile] | None = None

    def load(self) -> tuple[float, ...] | None:
        """The times last saved, seconds since 1970; None when there are none or they cannot be trusted."""
        try:
            content = os.pread(self._open(), _BODY.size + _CHECK.size, 0)
        except OSError as error:
            raise self._failed("read", error) from error
        if len(content) != _BODY.size + _CHECK.size:
            return None
        body, check = content[: _BODY.size], content[_BODY.size :]
        if _CHECK.pack(zlib.crc32(body)) != check:
            return None
        magic, *times = _BODY.unpack(body)
        return tuple(times) if magic == MAGIC else None

    def save(self, times: tuple[float, ...]) -> None:
        """Replace the times with one write."""
        body = _BODY.pack(MAGIC, *times)
        try:
            os.pwrite(self._open(), body + _CHECK.pack(zlib.crc32(body)), 0)
        except OSError as error:
            raise self._failed("write", error) from error

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        if self._close is not None:
            self._close()
            self._close = self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise self._failed("open", error) from error
            self._close = weakref.finalize(self, os.close, self._descriptor)
        return self._descriptor

    def _failed(self, verb: str, error: OSError) -> LimiterError:
        return LimiterError(
            f"cannot {verb} the limiter's schedule {self.path}: {error.strerror or error}. "
            "It keeps the rate limit when a process is killed and started again; make the folder writable."
        )
