"""How the command line speaks: results on stdout, everything else on stderr, JSON when asked.

Belongs here: printing, encoding, alignment, plain words for numbers. Not here: what is said (each command).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

__all__ = [
    "complain",
    "duration",
    "number",
    "one_line",
    "print_json",
    "printable",
    "say",
    "scrubbed",
    "table",
    "tell",
    "usd",
]

NARROWEST_COLUMN = 8


def say(text: str = "") -> None:
    """A result for the user: stdout."""
    print(scrubbed(printable(text)))


def tell(text: str) -> None:
    """A remark on the way: stderr."""
    print(scrubbed(printable(text)), file=sys.stderr, flush=True)


def complain(text: str) -> None:
    """What went wrong: stderr, with our name."""
    tell(f"batch-llm: {text}")


def scrubbed(text: str) -> str:
    """The text without any secret this process has resolved; all that is printed goes through here."""
    from batch_llm.config.secrets import known_secrets, scrub

    return scrub(text, known_secrets())


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


def printable(text: str) -> str:
    """The text without control characters: row text and answers must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def one_line(value: Any, width: int = 60) -> str:
    """A value on one line, cut at ``width`` characters."""
    text = " ".join(printable("" if value is None else str(value)).split())
    return text if len(text) <= width else text[: width - 1] + "…"


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


def number(value: float | None) -> str:
    """A count for people: 950, 12,300, 4.5M; a dash when unknown."""
    if value is None:
        return "-"
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:,.1f}M"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}"


def usd(value: Decimal | None) -> str:
    """Money for people, US dollars: unknown stays unknown, and a fraction of a cent is not rounded to nothing."""
    if value is None:
        return "unknown"
    if value == 0 or value >= 1:
        return f"${value:,.2f}"
    return f"${value:.4f}" if value >= Decimal("0.0001") else "< $0.0001"


def duration(seconds: float | None) -> str:
    """A length of time for people: 12 s, 5 min 12 s, 3 h 05 min; a dash when unknown."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, rest_minutes = divmod(minutes, 60)
    return f"{hours:,} h {rest_minutes:02d} min"
