"""How the command line speaks: results on stdout, everything else on stderr, JSON when asked.

Belongs here: printing, encoding, alignment. Not here: what is said (each command), the words for numbers and money,
which other doors say as well (watching/words.py; named here too, for the commands).
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from batch_llm.watching.words import (
    bill_in_words,
    duration,
    megabytes,
    number,
    one_line,
    plain,
    printable,
    scrubbed,
    usd,
)

__all__ = [
    "arguments",
    "bill_in_words",
    "complain",
    "duration",
    "megabytes",
    "number",
    "one_line",
    "plain",
    "print_json",
    "printable",
    "program",
    "say",
    "scrubbed",
    "table",
    "tell",
    "usd",
]

NARROWEST_COLUMN = 8
PROGRAM = "batch-llm"


def say(text: str = "") -> None:
    """A result for the user: stdout."""
    print(scrubbed(_for(sys.stdout, text)))


def tell(text: str) -> None:
    """A remark on the way: stderr."""
    print(scrubbed(_for(sys.stderr, text)), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """What went wrong: stderr, with our name."""
    tell(f"batch-llm: {text}")


def _for(stream: TextIO, text: str) -> str:
    """Whole into a file or pipe, but for what no encoding has; without what is dangerous on a terminal."""
    return printable(text) if stream.isatty() else text.encode(errors="replace").decode()


def print_json(value: Any) -> None:
    """One JSON value on one line of stdout; money becomes a number, times become RFC 3339 text."""
    import orjson

    line = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    print(scrubbed(line.decode()), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    return str(value)


def program() -> str:
    """What the user's shell calls this program: by its name where that is found, else as it was typed, quoted."""
    typed = Path(sys.argv[0])
    return PROGRAM if shutil.which(PROGRAM) or typed.name != PROGRAM else shlex.quote(str(typed))


def arguments(job: str, partition: str | None) -> str:
    """What stands behind a command that is to go on with a run of the job, over one date partition or all of it."""
    return job if partition is None else f"{job} --partition {partition}"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows in aligned columns, each row one line; in a terminal the last column takes what is left of its width."""
    cells = [[one_line(value, 200) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
    used = sum(widths[:-1]) + 2 * (len(widths) - 1)
    if sys.stdout.isatty():
        widths[-1] = min(widths[-1], max(NARROWEST_COLUMN, shutil.get_terminal_size().columns - used))
    lines = [headers, ["-" * width for width in widths], *cells]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(one_line(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
