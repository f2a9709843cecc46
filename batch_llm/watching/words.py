"""Plain words for what a run is made of: counts, money, time, a row's text on one line.

Belongs here: turning a value into words, and keeping control characters and secrets out of them. Not here: where they
are shown (each door), which value (board.py).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from batch_llm.statement_costs import WarehouseBill

__all__ = [
    "bill_in_words",
    "counted_as",
    "duration",
    "megabytes",
    "number",
    "one_line",
    "plain",
    "printable",
    "scrubbed",
    "usd",
]

# control characters but for newline and tab, embeddings and overrides of direction, halves of characters
_STEERS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")


def scrubbed(text: str) -> str:
    """The text without any secret this process has resolved; all that is printed goes through here."""
    from batch_llm.config.secrets import known_secrets, scrub

    return scrub(text, known_secrets())


def printable(text: str) -> str:
    """The text without control characters: row text and answers must not steer the terminal.

    What joins or marks letters (emoji, Arabic) stays; what turns the direction of all that follows does not.
    """
    return text if text.isprintable() else _STEERS.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(value: Any, width: int = 60) -> str:
    """A value on one line, cut at ``width`` characters."""
    text = " ".join(printable("" if value is None else plain(value)).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def plain(value: Any) -> str:
    """A value as text, a decimal number without an exponent: 0.00000002, not 2.0E-8."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return str(value)
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def counted_as(count: int, noun: str) -> str:
    """1 slice, 2 slices."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


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


def megabytes(size_bytes: int | None) -> str:
    """Bytes for people, in MB of 1,000,000; unknown stays unknown."""
    return "an unknown number of bytes" if size_bytes is None else f"{size_bytes / 1_000_000:,.1f} MB"


def bill_in_words(bill: WarehouseBill) -> str:
    """What a warehouse's statements cost: bytes, slot time, money as far as it is known."""
    used = "unknown" if bill.slot_ms is None else duration(bill.slot_ms / 1000)
    statements = counted_as(bill.statements, "statement")
    return f"{megabytes(bill.billed_bytes)} billed in {statements}, slot time {used}, cost {usd(bill.cost_usd)}"


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
