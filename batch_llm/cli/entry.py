"""The entry point: runs a command and turns whatever ends it into an exit code and plain words.

Belongs here: the process boundary. Not here: the commands (app.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, NoReturn

import typer
from typer import Abort

from batch_llm.cli.app import app
from batch_llm.cli.crash import write_crash_report
from batch_llm.cli.exits import Exit, exit_for_error
from batch_llm.cli.speech import complain
from batch_llm.cli.streams import make_streams_last
from batch_llm.errors import BatchLLMError
from batch_llm.memory import one_heap

__all__ = ["ExitBoundary", "main"]


class ExitBoundary:
    """Catches what ends a command; `code` then holds the exit code and stderr the reason.

    This is the edge of the process: an unknown fault ends here as exit code 4 with a report in a file instead of a
    traceback in the user's face, so everything but `SystemExit` is taken.
    """

    def __init__(self) -> None:
        """Until something goes wrong, the code is 0."""
        self.code: int = Exit.OK

    def __enter__(self) -> ExitBoundary:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[True] | None:
        """Say what was wrong and keep the code; swallows the error."""
        if error is None or isinstance(error, SystemExit):
            return None
        self.code = _explain(error)
        return True


def _explain(error: BaseException) -> int:
    """Say on stderr what ended the command; the exit code."""
    if isinstance(error, BatchLLMError):
        code = exit_for_error(error)
        if code is not Exit.INTERNAL:
            complain(str(error))
            return code
    elif isinstance(error, (KeyboardInterrupt, Abort)):
        complain("stopped by Ctrl-C")
        return Exit.STOPPED
    elif isinstance(error, PermissionError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror}; mend that, or set BATCH_LLM_HOME if it is the home")
        return Exit.USAGE
    elif _is_usage_error(error):
        complain(_usage_text(error))
        return Exit.USAGE
    place = write_crash_report(error)
    complain(f"internal error: {type(error).__name__}: {error}\nThe details are in {place}. What was paid for is safe.")
    return Exit.INTERNAL


def _is_usage_error(error: BaseException) -> bool:
    """Whether typer's parser raised it; its class is not public, so known by what it offers."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage_text(error: BaseException) -> str:
    message: str = error.format_message()  # type: ignore[attr-defined]  # see _is_usage_error
    context = getattr(error, "ctx", None)
    if context is None or message.startswith("Usage:"):
        return message
    return f"{message}\nTry '{context.command_path} --help'."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``batch-llm`` with these arguments (default: the process's own) and exit with its code."""
    one_heap()
    make_streams_last()
    with ExitBoundary() as boundary:
        command = typer.main.get_command(app)
        code = command(list(arguments) if arguments is not None else None, prog_name="batch-llm", standalone_mode=False)
        boundary.code = int(code or Exit.OK)
        sys.stdout.flush()
    sys.exit(boundary.code)
