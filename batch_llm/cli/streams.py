"""The process's own stdout and stderr, which outlive whoever reads them.

Belongs here: what becomes of a write that nobody takes. Not here: what is written (speech.py, panel.py).

A reader goes away (``| head``), a window closes, a log's disk is full: none of that changes what a command does, or its
exit code. Only a result that cannot be stored (stdout, on a full disk) is an error.
"""

from __future__ import annotations

import errno
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

__all__ = ["lasting", "make_streams_last"]

GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})  # nobody reads what is written
STDOUT, STDERR = 1, 2


class _Lasting(FileIO):
    """A file descriptor that leads nowhere as soon as nobody reads it."""

    def __init__(self, number: int, *, is_result: bool) -> None:
        super().__init__(number, "wb", closefd=False)
        self._is_result = is_result

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            is_gone = error.errno in GONE
            if is_gone or self._is_result:  # what is still buffered must not fail once more at the interpreter's end
                _lead_nowhere(self.fileno())
            if self._is_result and not is_gone:
                raise
            return memoryview(data).nbytes


def lasting(stream: TextIOWrapper, *, is_result: bool) -> TextIOWrapper:
    """The same stream, whose writes do not fail for want of a reader, nor for a character that its encoding lacks.

    ``is_result``: what cannot be stored is an error, told once; else it is left out.
    """
    stream.flush()
    raw = _Lasting(stream.fileno(), is_result=is_result)
    return TextIOWrapper(
        raw if stream.write_through else BufferedWriter(raw),  # as `python -u` has it
        stream.encoding,
        "replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def make_streams_last() -> None:
    """Those of this process; what somebody put in their place stays where it is."""
    for number in (STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:  # closed: else the next file that is opened would get this number, and what is printed
            _lead_nowhere(number)
    sys.stdout = _made_last(sys.stdout, STDOUT)
    sys.stderr = _made_last(sys.stderr, STDERR)


def _made_last(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # it was closed when the interpreter began
        return open(os.devnull, "w", encoding="utf-8", errors="replace")
    if isinstance(stream, TextIOWrapper):
        if stream in (sys.__stdout__, sys.__stderr__):
            return lasting(stream, is_result=number == STDOUT)
        stream.reconfigure(errors="replace")
    return stream


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere == number:
        os.set_inheritable(number, True)
        return
    os.dup2(nowhere, number)
    os.close(nowhere)
