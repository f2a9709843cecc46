"""CSV as it is found: which delimiter, and newlines of several kinds in one file.

Belongs here: bytes of a CSV file. Not here: columns and types (sql/scan_csv.sql). DuckDB's reader is used in its
strict mode with the dialect given, because left to guess it drops or bends rows without a word (measured: a lone
carriage return among line feeds made a key NULL; rows before a wider one were skipped as a preamble).
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

__all__ = ["delimiter", "first_odd_line", "with_one_newline"]

_DELIMITERS = (b",", b";", b"\t", b"|")
_CHUNK_BYTES = 1 << 20
_NEWLINE = re.compile(rb"\r\n|\r")


def delimiter(path: Path) -> str:
    """The delimiter that stands most often in the header; a comma when there is none."""
    with path.open("rb") as file:
        header = re.split(rb"[\r\n]", file.readline(_CHUNK_BYTES), maxsplit=1)[0]
    unquoted = b"".join(header.split(b'"')[::2])
    return max(_DELIMITERS, key=unquoted.count).decode()


def with_one_newline(path: Path, copy: Path) -> None:
    """Copy a CSV file with every line ended by a line feed; what stands in quotes is left as it is."""
    in_quotes = False
    with path.open("rb") as source, copy.open("wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            while chunk.endswith(b"\r") and (more := source.read(1)):  # its line feed may be in the next chunk
                chunk += more
            for number, part in enumerate(chunk.split(b'"')):
                if number:
                    target.write(b'"')
                    in_quotes = not in_quotes
                target.write(part if in_quotes else _NEWLINE.sub(b"\n", part))


def first_odd_line(path: Path) -> str:
    """What is wrong with a CSV file that cannot be parsed, in words, as far as it can be told."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter(path), strict=True)
        try:
            width = len(next(rows, []))
            for row in rows:
                if row and len(row) != width:
                    return f"line {rows.line_num} has {len(row)} columns, the header has {width}"
        except csv.Error as error:
            return f"line {rows.line_num}: {error}"
    return ""
