"""What is left behind after an internal error: a report in the home, without secrets.

Belongs here: writing the file. Not here: deciding the exit code (entry.py).
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from batch_llm.errors import BatchLLMError
from batch_llm.folders import private_folder

__all__ = ["write_crash_report"]


def write_crash_report(error: BaseException, home: Path | None = None) -> Path:
    """Write traceback, versions and arguments, scrubbed of every known secret, to a new file; its path.

    ``home``: default is the home of this environment; the temporary directory where that cannot be written.
    """
    from batch_llm.config.secrets import known_secrets, scrub

    text = scrub(_report(error), known_secrets())
    name = f"error-{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    try:
        return _write((home or _home()) / "errors" / name, text)
    except (OSError, BatchLLMError):
        return _write(Path(tempfile.gettempdir()) / f"batch_llm-{name}", text)


def _home() -> Path:
    from batch_llm.config.settings import Settings

    return Settings.from_environment().home


def _report(error: BaseException) -> str:
    lines = [
        f"at: {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        f"python: {platform.python_version()} on {platform.platform()}",
        f"arguments: {' '.join(sys.argv[1:])}",
        "",
        *traceback.format_exception(error),
    ]
    return "\n".join(lines)


def _write(path: Path, text: str) -> Path:
    private_folder(path.parent)
    path.touch(mode=0o600)  # a message in the traceback may quote a row
    path.write_text(text, encoding="utf-8")
    return path.resolve()
